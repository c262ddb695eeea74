//! Clients that keep to no protocol.

use std::io::{Read, Write};
use std::time::Duration;

use bandsox_proto::v2::{ErrorCode, Reply, Request, Stdin};

use crate::guest::{Client, Guest, command};

fn alive(guest: &Guest) {
    assert_eq!(guest.connect().shell("echo alive").stdout, b"alive\n");
}

fn refused(client: &mut Client) -> ErrorCode {
    match client.hear() {
        Reply::Error(fault) => fault.code,
        other => panic!("not Error: {other:?}"),
    }
}

#[test]
fn a_foreign_greeting_is_not_answered() {
    let guest = Guest::start();
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"BSX1\x02\x00", b"\0\0\0\0\0\0\0\0"] {
        let mut stream = guest.raw();
        stream.write_all(greeting).expect("writes");

        assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0);
    }
    alive(&guest);
}

#[test]
fn another_version_is_answered_with_the_range_and_closed() {
    let guest = Guest::start();
    let mut stream = guest.raw();
    stream.write_all(b"BSX2\x07\x00").expect("writes");

    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end");

    assert_eq!(answer, b"BSX2\x02\x02");
}

#[test]
fn a_frame_that_announces_too_much_ends_the_connection() {
    let guest = Guest::start();
    let mut client = guest.connect();
    client.raw().write_all(&[0xff, 0xff, 0xff, 0xff, 0x01]).expect("writes");

    assert!(client.at_end());
    alive(&guest);
}

#[test]
fn an_unknown_message_is_refused_and_the_next_one_heard() {
    let guest = Guest::start();
    let mut client = guest.connect();
    client.raw().write_all(&[3, 0, 0, 0, 0x7e, 1, 2, 3]).expect("writes");
    assert_eq!(refused(&mut client), ErrorCode::Unsupported);
    client.raw().write_all(&[3, 0, 0, 0, 0x01, 1, 2, 3]).expect("writes");
    assert_eq!(refused(&mut client), ErrorCode::Invalid);
    client.raw().write_all(&[0, 0, 0, 0, 0x82]).expect("writes");
    assert_eq!(refused(&mut client), ErrorCode::Invalid);

    client.say(&Request::Ping);
    assert!(matches!(client.hear(), Reply::Pong));
}

#[test]
fn a_command_of_nothing_is_refused() {
    let guest = Guest::start();
    let mut client = guest.connect();

    client.say(&Request::Exec(command(&[])));

    assert_eq!(refused(&mut client), ErrorCode::Invalid);
}

#[test]
fn an_argument_with_a_nul_is_an_error_and_no_crash() {
    let guest = Guest::start();
    let mut client = guest.connect();

    let said = client.run(command(&["echo", "a\0b"]));

    assert_eq!(said.exit.code, Some(126));
    alive(&guest);
}

#[test]
fn stdin_beyond_the_window_ends_the_connection_and_not_the_agent() {
    let guest = Guest::start();
    let mut client = guest.connect();
    let exec = bandsox_proto::v2::Exec { stdin: true, ..command(&["sleep", "1000"]) };
    client.say(&Request::Exec(exec));
    client.started();

    for n in 0..10_u64 {
        let stdin = Stdin { offset: n * 60_000, data: vec![0; 60_000] };
        let frame = Request::Stdin(stdin).to_frame().expect("fits");
        if client.raw().write_all(&frame).is_err() {
            break;
        }
    }

    while let Ok(Some(frame)) = client.frames.read() {
        match Reply::decode(frame.kind, frame.payload).expect("a reply") {
            Reply::StdinAck(_) => {}
            Reply::Error(fault) => assert_eq!(fault.code, ErrorCode::Invalid),
            other => panic!("unexpected: {other:?}"),
        }
    }
    alive(&guest);
}

#[test]
fn more_connections_than_there_is_room_for_are_closed_and_room_comes_back() {
    let guest = Guest::start();
    let idle: Vec<_> = (0..400).map(|_| guest.raw()).collect();
    std::thread::sleep(Duration::from_millis(500));
    drop(idle);

    crate::guest::eventually("there is room again", || {
        let mut stream = guest.raw();
        stream.write_all(b"BSX2\x02\x00").is_ok() && stream.read_exact(&mut [0; 6]).is_ok()
    });
    alive(&guest);
}

#[test]
fn a_line_without_end_ends_its_connection() {
    let guest = Guest::start();
    let mut stream = guest.raw();
    let mut line = vec![b'x'; 300_000];
    line[0] = b'{';
    // The agent closes as soon as it has seen enough.
    stream.write_all(&line).ok();

    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();

    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.contains("line is longer than 131072 bytes"), "{text}");
    alive(&guest);
}

#[test]
fn random_bytes_after_the_greeting_do_no_harm() {
    let guest = Guest::start();
    let mut random = std::fs::File::open("/dev/urandom").expect("random");
    for _ in 0..200 {
        let mut client = guest.connect();
        let mut bytes = [0; 512];
        random.read_exact(&mut bytes).expect("random");
        // Short frames, so that many are whole.
        bytes[1] = 0;
        bytes[2] = 0;
        bytes[3] = 0;
        client.raw().write_all(&bytes).ok();
        client.raw().shutdown(std::net::Shutdown::Write).ok();
        while matches!(client.frames.read(), Ok(Some(_))) {}
    }
    alive(&guest);
}
