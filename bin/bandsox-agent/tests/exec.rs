//! One command, one client.

use std::time::{Duration, Instant};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    ErrorCode, Exec, Reply, Request, Signal, Stdin, StdinEof, StreamName, WindowSize,
};

use crate::guest::{Guest, command, eventually, is_alive, shell};

#[test]
fn stdout_stderr_and_exit_code_come_apart() {
    let guest = Guest::start();

    let said = guest.connect().shell("echo out; echo err >&2; exit 7");

    assert_eq!((&*said.stdout, &*said.stderr), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!((said.exit.code, said.exit.signal), (Some(7), None));
}

#[test]
fn a_connection_runs_one_command_after_the_other() {
    let guest = Guest::start();
    let mut client = guest.connect();

    for n in 0..200 {
        let said = client.run(command(&["echo", "hi"]));
        assert_eq!(said.stdout, b"hi\n", "at number {n}");
    }
}

#[test]
fn arguments_and_environment_are_bytes_and_no_shell_sees_them() {
    let guest = Guest::start();
    let mut exec =
        command(&["sh", "-c", "printf '%s|' \"$@\" \"$ODD\"", "sh", "$HOME", "a b", "*"]);
    exec.argv.push(ByteString::from(&b"\xff\n"[..]));
    exec.env = vec![ByteString::from(&b"ODD=\xfe=x y"[..]), "NONAME".into(), "=evil".into()];

    let said = guest.connect().run(exec);

    assert_eq!(said.stdout, b"$HOME|a b|*|\xff\n|\xfe=x y|");
}

#[test]
fn the_environment_has_defaults_that_the_client_can_override() {
    let guest = Guest::start();
    let mut client = guest.connect();
    // By default a command is the agent's own user, who in a guest is root.
    let passwd = std::fs::read_to_string("/etc/passwd").expect("readable");
    let uid = rustix::process::geteuid().as_raw().to_string();
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries.find(|fields| fields.get(2) == Some(&uid.as_str()));
    let (name, home) = entry.map_or(("", "/"), |fields| (fields[0], fields[5]));
    let said = client.shell("echo $PATH; echo $HOME; echo $USER; echo $TERM");
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let defaults = format!("{path}\n{home}\n{name}\n\n");
    assert_eq!(String::from_utf8_lossy(&said.stdout), defaults);

    let said =
        client.run(Exec { env: vec!["HOME=/x".into(), "HOME=/y".into()], ..shell("echo $HOME") });
    assert_eq!(said.stdout, b"/y\n");
}

#[test]
fn stdin_arrives_whole_and_ends() {
    let guest = Guest::start();
    let mut client = guest.connect();
    client.say(&Request::Exec(Exec { stdin: true, ..command(&["md5sum"]) }));
    client.started();

    let mut offset = 0;
    let mut confirmed = 0;
    while offset < 3_000_000_u64 {
        let data = vec![b'x'; 50_000];
        let len = data.len() as u64;
        client.say(&Request::Stdin(Stdin { offset, data }));
        offset += len;
        while offset - confirmed > 200_000 {
            match client.hear() {
                Reply::StdinAck(ack) => confirmed = ack.offset,
                other => panic!("not StdinAck: {other:?}"),
            }
        }
    }
    client.say(&Request::StdinEof(StdinEof { offset }));

    let said = client.rest();
    assert_eq!(said.stdout, b"8e32e22642bddc89698e25a4e9bf528b  -\n");
}

#[test]
fn a_command_without_stdin_reads_the_end() {
    let guest = Guest::start();
    let mut client = guest.connect();
    client.say(&Request::Exec(command(&["cat"])));
    client.started();
    // A client that says so all the same does no harm.
    client.say(&Request::StdinEof(StdinEof { offset: 0 }));

    assert_eq!(client.rest().exit.code, Some(0));
}

#[test]
fn a_command_that_does_not_read_stdin_does_not_stop_its_client() {
    let guest = Guest::start();
    let mut client = guest.connect();
    client.say(&Request::Exec(Exec { stdin: true, ..shell("exec <&-; sleep 0.2; echo done") }));
    client.started();
    for n in 0..16_u64 {
        let data = vec![0; 16 * 1024];
        client.say(&Request::Stdin(Stdin { offset: n * 16 * 1024, data }));
    }

    assert_eq!(client.rest().stdout, b"done\n");
}

#[test]
fn what_cannot_be_started_exits_as_a_shell_has_it() {
    let guest = Guest::start();
    let script = guest.path("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("modes");
    let mut client = guest.connect();
    let mut failing = |exec: Exec| {
        let exit = client.run(exec).exit;
        let error = exit.error.expect("a reason");
        (exit.code.expect("a code"), error.code, error.message)
    };

    let (code, why, text) = failing(command(&["no-such-program"]));
    assert_eq!((code, why, &*text), (127, ErrorCode::NotFound, "no-such-program: not found"));
    let (code, why, _) = failing(command(&["/etc/passwd"]));
    assert_eq!((code, why), (126, ErrorCode::NotExecutable));
    let (code, why, _) = failing(command(&[script.to_str().expect("plain")]));
    assert_eq!((code, why), (126, ErrorCode::NotExecutable));
    let (code, why, text) = failing(Exec { user: Some("nobody-here".into()), ..shell("true") });
    assert_eq!(
        (code, why, &*text),
        (126, ErrorCode::UnknownUser, "the guest has no user \"nobody-here\"")
    );
    let (code, why, _) = failing(Exec { cwd: Some("/no/such/dir".into()), ..shell("true") });
    assert_eq!((code, why), (126, ErrorCode::NotFound));
    assert_eq!(client.shell("echo fine").stdout, b"fine\n");
}

#[test]
fn a_signal_is_named_and_reaches_the_whole_group() {
    let guest = Guest::start();
    let mut client = guest.connect();
    client.say(&Request::Exec(shell("sleep 1000 & echo $!; wait")));
    client.started();
    let child: u32 = String::from_utf8_lossy(&client.output().data).trim().parse().expect("a pid");

    client.say(&Request::Signal(Signal { number: 15 }));

    let exit = client.rest().exit;
    assert_eq!((exit.code, exit.signal), (None, Some(15)));
    eventually("the child is gone", || !is_alive(child));
}

#[test]
fn a_command_that_ignores_the_polite_signal_is_killed_when_its_time_is_over() {
    let guest = Guest::start();
    let exec = Exec {
        timeout_ms: Some(200),
        ..shell("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    };

    let said = guest.connect().run(exec);

    assert_eq!(said.stdout, b"ready\n");
    assert!(said.exit.timeout);
    assert_eq!(said.exit.signal, Some(9));
}

#[test]
fn a_command_that_obeys_when_its_time_is_over_is_a_timeout_all_the_same() {
    let guest = Guest::start();
    let exec =
        Exec { timeout_ms: Some(200), ..shell("trap 'exit 3' TERM; while :; do sleep 0.1; done") };

    let exit = guest.connect().run(exec).exit;

    assert_eq!((exit.timeout, exit.code), (true, Some(3)));
}

#[test]
fn a_child_in_the_background_that_holds_stdout_does_not_hold_the_session() {
    let guest = Guest::start();
    let begin = Instant::now();

    let said = guest.connect().shell("echo now; (sleep 3; echo late; sleep 1000) & echo $!");

    assert_eq!(said.exit.code, Some(0));
    assert!(begin.elapsed() < Duration::from_secs(1000));
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let child: u32 = text.trim_start_matches("now\n").trim().parse().expect("a pid");
    // It prints into nothing, and lives: neither a broken pipe nor a full one.
    std::thread::sleep(Duration::from_secs(4));
    assert!(is_alive(child));
    guest.connect().shell(&format!("kill {child}"));
}

#[test]
fn everything_that_was_printed_before_the_exit_arrives() {
    let guest = Guest::start();

    let said = guest.connect().shell("head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2");

    assert_eq!((said.stdout.len(), said.stderr.len()), (3_000_000, 100_000));
}

#[test]
fn a_command_inherits_nothing_of_the_agents_own() {
    let guest = Guest::start();
    let mut client = guest.connect();
    let mut other = guest.connect();
    other.say(&Request::Exec(Exec { stdin: true, ..command(&["cat"]) }));
    other.started();

    // Whoever runs the tests may have left descriptors open for all of us.
    let direct = std::process::Command::new("ls").arg("/proc/self/fd").output().expect("runs");
    assert_eq!(client.run(command(&["ls", "/proc/self/fd"])).stdout, direct.stdout);
    // Ignored, a broken pipe would be an error message instead of a quiet end.
    let said = client.shell("yes | head -n 1; grep SigBlk /proc/self/status");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(text, "y\nSigBlk:\t0000000000000000\n");
    assert_eq!(said.stderr, b"");
}

#[test]
fn a_terminal_is_one() {
    let guest = Guest::start();
    let mut client = guest.connect();
    let tty = Some(WindowSize { rows: 33, cols: 77 });
    let script = "tty >/dev/null && stty size && echo $TERM && ps -o tpgid= -p $$ >/dev/null; read x; stty size; echo $x";
    client.say(&Request::Exec(Exec { tty, stdin: true, ..shell(script) }));
    client.started();
    let mut text = Vec::new();
    while !text.ends_with(b"xterm\r\n") {
        let output = client.output();
        assert_eq!(output.stream, StreamName::Stdout);
        text.extend(output.data);
    }
    assert_eq!(String::from_utf8_lossy(&text), "33 77\r\nxterm\r\n");

    client.say(&Request::Resize(WindowSize { rows: 10, cols: 20 }));
    client.say(&Request::Stdin(Stdin { offset: 0, data: b"typed\n".to_vec() }));

    let said = client.rest();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "typed\r\n10 20\r\ntyped\r\n");
}

#[test]
fn control_c_on_a_terminal_interrupts_and_its_end_of_input_ends() {
    let guest = Guest::start();
    let tty = Some(WindowSize { rows: 24, cols: 80 });
    let mut client = guest.connect();
    client.say(&Request::Exec(Exec { tty, stdin: true, ..shell("echo go; exec sleep 1000") }));
    client.started();
    client.output();
    client.say(&Request::Stdin(Stdin { offset: 0, data: vec![3] }));
    assert_eq!(client.rest().exit.signal, Some(2));

    client.say(&Request::Exec(Exec {
        tty,
        stdin: true,
        ..shell("stty -echo; echo go; cat; echo end")
    }));
    client.started();
    client.output();
    client.say(&Request::Stdin(Stdin { offset: 0, data: b"x\n".to_vec() }));
    client.say(&Request::StdinEof(StdinEof { offset: 2 }));
    assert_eq!(client.rest().stdout, b"x\r\nend\r\n");
}

#[test]
fn a_user_brings_identity_and_home_and_loses_roots_rights() {
    let own = rustix::process::geteuid();
    assert!(own.is_root(), "needs root, since only root can become somebody else");
    let guest = Guest::start();
    let mut client = guest.connect();

    let said = client.run(Exec {
        user: Some("nobody".into()),
        ..shell("id -u; id -G; echo $USER; cat /etc/shadow")
    });
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(text, "65534\n65534\nnobody\n");
    assert_eq!(said.exit.code, Some(1), "{}", String::from_utf8_lossy(&said.stderr));

    let said = client.run(Exec { user: Some("1234:5678".into()), ..shell("id -u; id -g; id -G") });
    assert_eq!(said.stdout, b"1234\n5678\n5678\n");
}

#[test]
fn the_working_directory_is_where_it_was_asked_for() {
    let guest = Guest::start();
    let mut client = guest.connect();

    let said = client.run(Exec { cwd: Some("/usr/lib".into()), ..shell("pwd") });
    assert_eq!(said.stdout, b"/usr/lib\n");
    let said = client.run(Exec { cwd: Some("/usr".into()), ..command(&["bin/env", "pwd"]) });
    assert_eq!(said.stdout, b"/usr\n");
}

#[test]
fn a_missing_working_directory_is_made_if_that_is_asked_for() {
    let guest = Guest::start();
    let mut client = guest.connect();
    let dir = guest.path("srv/app");
    let cwd = dir.to_str().map(Into::into);

    let refused = client.run(Exec { cwd: cwd.clone(), ..shell("pwd") });
    assert_eq!(refused.exit.code, Some(126));
    for _ in 0..2 {
        let said = client.run(Exec { cwd: cwd.clone(), make_cwd: true, ..shell("pwd") });
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim_end(), dir.to_string_lossy());
    }
    let file = guest.path("file");
    std::fs::write(&file, "").expect("writes");
    let cwd = file.to_str().map(Into::into);
    let refused = client.run(Exec { cwd, make_cwd: true, ..shell("pwd") });
    assert_eq!(refused.exit.code, Some(126));
}

#[test]
fn orphans_and_commands_leave_no_zombies() {
    let guest = Guest::start();
    let mut client = guest.connect();
    for _ in 0..20 {
        client.shell("(sleep 0.05 &) ; true");
        client.run(command(&["/no/such"]));
    }

    let pid = guest.pid();
    eventually("no zombies", || {
        let children = format!("/proc/{pid}/task/{pid}/children");
        std::fs::read_to_string(children).expect("a list").trim().is_empty()
    });
}

#[test]
fn the_agent_stays_small() {
    let guest = Guest::start();
    let mut clients: Vec<_> = (0..20).map(|_| guest.connect()).collect();
    for client in &mut clients {
        client.shell("head -c 2000000 /dev/zero");
    }

    let status =
        std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    assert!(kib < 32 * 1024, "{line}");
}
