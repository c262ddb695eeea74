//! Clients that come, go and come back.

use bandsox_proto::v2::{Attach, ErrorCode, Exec, Reply, Request, SessionId, Stdin, StdinEof};

use crate::guest::{Client, Guest, command, eventually, fresh_id, shell};

fn attach(client: &mut Client, session: SessionId, from_seq: u64) {
    client.say(&Request::Attach(Attach { session, from_seq }));
}

fn refused(client: &mut Client) -> ErrorCode {
    match client.hear() {
        Reply::Error(fault) => fault.code,
        other => panic!("not Error: {other:?}"),
    }
}

#[test]
fn a_client_that_lost_its_connection_misses_nothing() {
    let guest = Guest::start();
    let exec = shell("for i in $(seq 50); do echo $i; sleep 0.02; done; exit 5");
    let session = exec.session;
    let mut first = guest.connect();
    first.say(&Request::Exec(exec));
    first.started();
    let mut seen = Vec::new();
    let mut next = 0;
    for _ in 0..3 {
        let output = first.output();
        assert_eq!(output.seq, next);
        next += 1;
        seen.extend(output.data);
    }
    drop(first);

    let mut second = guest.connect();
    attach(&mut second, session, next);
    let started = second.started();
    let said = second.rest();

    assert!(started.resumed);
    seen.extend(said.stdout);
    let expected: String = (1..=50).map(|n| format!("{n}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&seen), expected);
    assert_eq!(said.exit.code, Some(5));
}

#[test]
fn a_session_that_ended_meanwhile_is_told_to_its_end() {
    let guest = Guest::start();
    let exec = shell("echo out; echo err >&2; exit 9");
    let session = exec.session;
    let mut first = guest.connect();
    first.say(&Request::Exec(exec));
    first.started();
    drop(first);

    let mut second = guest.connect();
    attach(&mut second, session, 0);
    second.started();
    let said = second.rest();

    assert_eq!((&*said.stdout, &*said.stderr), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(said.exit.code, Some(9));
    // The exit has been confirmed, so that nothing is kept.
    attach(&mut second, session, 0);
    assert_eq!(refused(&mut second), ErrorCode::SessionGone);
}

#[test]
fn a_command_is_run_at_most_once_whatever_is_asked() {
    let guest = Guest::start();
    let trace = guest.path("trace");
    let exec = shell(&format!("echo run >> {}; sleep 0.2", trace.display()));
    let mut clients: Vec<Client> = (0..5).map(|_| guest.connect()).collect();

    for client in &mut clients {
        client.say(&Request::Exec(exec.clone()));
    }
    let mut last = guest.connect();
    last.say(&Request::Exec(exec.clone()));
    // Whoever is attached at the end hears it; the others were replaced.
    let exited = |client: &mut Client| loop {
        match client.hear() {
            Reply::Exit(exit) => return Some(exit),
            Reply::Started(_) => {}
            Reply::Error(_) => return None,
            other => panic!("not of a session: {other:?}"),
        }
    };
    clients.push(last);
    let exits: Vec<_> = clients.iter_mut().filter_map(exited).collect();
    assert!(!exits.is_empty());
    assert_eq!(std::fs::read_to_string(&trace).expect("it ran"), "run\n");

    // Also after it is over and forgotten.
    let mut late = guest.connect();
    late.say(&Request::Exec(exec.clone()));
    late.started();
    late.rest();
    late.say(&Request::Exec(exec));
    assert_eq!(refused(&mut late), ErrorCode::SessionGone);
    assert_eq!(std::fs::read_to_string(&trace).expect("it ran"), "run\n");
}

#[test]
fn a_client_that_does_not_read_stops_the_command_and_loses_nothing() {
    let guest = Guest::start();
    let exec = shell("head -c 20000000 /dev/zero | tr '\\0' x; echo end >&2");
    let session = exec.session;
    let mut client = guest.connect();
    client.say(&Request::Exec(exec));
    client.started();
    let mut got = 0;
    // Reads and confirms nothing of it: the agent may keep a megabyte, not twenty.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    assert!(kib < 12 * 1024, "{line}");

    drop(client);
    let mut client = guest.connect();
    attach(&mut client, session, 0);
    client.started();
    let said = client.rest();
    got += said.stdout.len();

    assert_eq!((got, &*said.stderr), (20_000_000, &b"end\n"[..]));
}

#[test]
fn input_goes_on_where_the_agent_has_it() {
    let guest = Guest::start();
    let exec = Exec { stdin: true, ..command(&["cat"]) };
    let session = exec.session;
    let mut first = guest.connect();
    first.say(&Request::Exec(exec));
    first.started();
    first.say(&Request::Stdin(Stdin { offset: 0, data: b"one ".to_vec() }));
    assert_eq!(first.output().data, b"one ");
    drop(first);

    let mut second = guest.connect();
    attach(&mut second, session, 1);
    let started = second.started();
    assert_eq!(started.stdin_offset, 4);
    // What the agent has is sent again by a client that does not know; it is taken once.
    second.say(&Request::Stdin(Stdin { offset: 0, data: b"one two".to_vec() }));
    second.say(&Request::StdinEof(StdinEof { offset: 7 }));

    assert_eq!(second.rest().stdout, b"two");
}

#[test]
fn a_second_client_takes_the_session_over() {
    let guest = Guest::start();
    let exec = Exec { stdin: true, ..command(&["cat"]) };
    let session = exec.session;
    let mut first = guest.connect();
    first.say(&Request::Exec(exec));
    first.started();

    let mut second = guest.connect();
    attach(&mut second, session, 0);
    second.started();

    assert_eq!(refused(&mut first), ErrorCode::Replaced);
    assert!(first.at_end());
    second.say(&Request::StdinEof(StdinEof { offset: 0 }));
    assert_eq!(second.rest().exit.code, Some(0));
    // The connection is free again.
    assert_eq!(second.shell("echo free").stdout, b"free\n");
}

#[test]
fn a_detached_command_keeps_running_and_its_newest_output() {
    let guest = Guest::start();
    let done = guest.path("done");
    let script = format!("seq 1 500000; touch {}; sleep 1000", done.display());
    let exec = Exec { detach: true, ..shell(&script) };
    let session = exec.session;
    let mut client = guest.connect();
    client.say(&Request::Exec(exec));
    client.started();
    drop(client);

    eventually("it is not stopped by a full buffer", || done.exists());

    let mut client = guest.connect();
    attach(&mut client, session, 0);
    let started = client.started();
    assert!(started.first_seq > 0);
    let mut text = Vec::new();
    while !text.ends_with(b"\n500000\n") {
        text.extend(client.output().data);
    }
    client.say(&Request::Signal(bandsox_proto::v2::Signal { number: 9 }));
    assert_eq!(client.rest().exit.signal, Some(9));
}

#[test]
fn sessions_are_listed() {
    let guest = Guest::start();
    let exec = command(&["sleep", "1000"]);
    let session = exec.session;
    let mut client = guest.connect();
    client.say(&Request::Exec(exec));
    let pid = client.started().pid;

    let mut other = guest.connect();
    other.say(&Request::ListSessions);
    let Reply::Sessions(list) = other.hear() else { panic!("not Sessions") };

    let info = list.sessions.first().expect("one");
    assert_eq!((info.session, info.pid, info.running, info.attached), (session, pid, true, true));
    assert_eq!(info.program.as_bytes(), b"sleep");
}

#[test]
fn a_session_that_never_was_is_unknown() {
    let guest = Guest::start();
    let mut client = guest.connect();

    attach(&mut client, fresh_id(), 0);

    assert_eq!(refused(&mut client), ErrorCode::UnknownSession);
}

#[test]
fn too_many_commands_are_refused_and_room_comes_back() {
    let guest = Guest::start();
    let mut clients: Vec<Client> = (0..128).map(|_| guest.connect()).collect();
    for client in &mut clients {
        client.say(&Request::Exec(Exec { stdin: true, ..command(&["cat"]) }));
        client.started();
    }

    let mut extra = guest.connect();
    extra.say(&Request::Exec(command(&["true"])));
    assert_eq!(refused(&mut extra), ErrorCode::Limit);

    let freed = clients.last_mut().expect("many");
    freed.say(&Request::StdinEof(StdinEof { offset: 0 }));
    freed.rest();
    assert_eq!(extra.shell("echo room").stdout, b"room\n");
}

#[test]
fn finished_sessions_are_kept_within_bounds() {
    let guest = Guest::start();
    let mut ids = Vec::new();
    for _ in 0..80 {
        let exec = command(&["true"]);
        ids.push(exec.session);
        let mut client = guest.connect();
        client.say(&Request::Exec(exec));
        client.started();
    }
    let mut client = guest.connect();
    eventually("all are over", || {
        client.say(&Request::ListSessions);
        let Reply::Sessions(list) = client.hear() else { panic!("not Sessions") };
        list.sessions.iter().all(|info| !info.running)
    });

    client.say(&Request::ListSessions);
    let Reply::Sessions(list) = client.hear() else { panic!("not Sessions") };
    assert_eq!(list.sessions.len(), 64);
    attach(&mut client, *ids.last().expect("many"), 0);
    client.started();
    client.rest();
}

#[test]
fn a_session_that_is_over_is_told_from_where_it_was_asked_for() {
    let guest = Guest::start();
    let exec = shell("echo one; sleep 0.3; echo two");
    let session = exec.session;
    let mut first = guest.connect();
    first.say(&Request::Exec(exec));
    first.started();
    let heard = first.output();
    assert_eq!((heard.seq, &*heard.data), (0, &b"one\n"[..]));
    // The rest, and the exit, without a word of thanks: all of it is kept.
    first.output();
    assert!(matches!(first.hear(), Reply::Exit(_)));
    drop(first);

    let mut second = guest.connect();
    attach(&mut second, session, 1);
    second.started();

    let heard = second.output();
    assert_eq!((heard.seq, &*heard.data), (1, &b"two\n"[..]));
    assert!(matches!(second.hear(), Reply::Exit(_)));
}
