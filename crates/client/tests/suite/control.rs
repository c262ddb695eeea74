//! The control socket, against monitors that keep to the protocol and that do not.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread::{self, JoinHandle};

use bandsox_client::{ConnectError, Monitor, PacketListener, PacketSocket, RequestError};
use bandsox_proto::control::Transport;
use serde_json::{Value, json};

/// Serves one client at `dir/control.sock`.
fn serve(dir: &Path, monitor: impl FnOnce(&PacketSocket) + Send + 'static) -> JoinHandle<()> {
    let listener = PacketListener::bind(&dir.join("control.sock")).expect("listens");
    thread::spawn(move || monitor(&listener.accept().expect("accepts")))
}

fn hear(socket: &PacketSocket) -> Value {
    let packet = socket.receive().expect("receives").expect("a packet");
    serde_json::from_slice(&packet.bytes).expect("JSON")
}

fn say(socket: &PacketSocket, value: &Value) {
    socket.send(value.to_string().as_bytes(), &[]).ok();
}

fn hello(socket: &PacketSocket) {
    assert_eq!(hear(socket), json!({"hello": {"versions": [1]}}));
    say(socket, &json!({"hello": {"version": 1, "monitor": "4.0.0", "vm": "abc"}}));
}

fn connect(dir: &Path) -> Result<Monitor, ConnectError> {
    Monitor::connect(&dir.join("control.sock"))
}

#[test]
fn a_request_gets_its_answer_and_progress_on_the_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let monitor = serve(dir.path(), |socket| {
        hello(socket);
        let request = hear(socket);
        assert_eq!(request["op"], "get_file");
        let id = &request["id"];
        say(socket, &json!({"id": id, "progress": {"bytes": 5}}));
        say(socket, &json!({"id": 999, "ok": {"stale": true}}));
        say(
            socket,
            &json!({"id": id, "ok": {
                "size": 9, "mode": 420, "mtime_ns": 1, "xxh64": "0", "transport": "serial",
            }}),
        );
    });
    let file = tempfile::tempfile().expect("a file");
    let mut client = connect(dir.path()).expect("connects");
    assert_eq!((client.vm(), client.version()), ("abc", "4.0.0"));

    let mut told = vec![];
    let got = client.get_file("/x".into(), file.as_fd(), None, &mut |bytes| told.push(bytes));

    monitor.join().expect("the monitor met what it expected");
    let got = got.expect("answered");
    assert_eq!((got.size, got.transport, told), (9, Transport::Serial, vec![5]));
}

#[test]
fn a_refusal_keeps_its_code_and_hint() {
    let dir = tempfile::tempdir().expect("a directory");
    let _monitor = serve(dir.path(), |socket| {
        hello(socket);
        let id = hear(socket)["id"].clone();
        let error = json!({"code": "wrong_phase", "message": "no", "hint": "resume it"});
        say(socket, &json!({"id": id, "error": error}));
    });
    let mut client = connect(dir.path()).expect("connects");

    let refused = client.pause().expect_err("refused");

    assert_eq!(refused.to_string(), "no");
    assert_eq!((refused.code(), refused.hint()), (Some("wrong_phase"), Some("resume it")));
}

#[test]
fn nobody_at_the_socket_is_told_from_other_failures() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = connect(dir.path());
    drop(PacketListener::bind(&dir.path().join("control.sock")).expect("listens"));
    let dead = connect(dir.path());

    assert!(matches!(missing, Err(ConnectError::NotServed { .. })), "{missing:?}");
    assert!(matches!(dead, Err(ConnectError::NotServed { .. })), "{dead:?}");
}

#[test]
fn greetings_that_make_no_sense_are_refused() {
    let version = json!({"hello": {"version": 7, "monitor": "x", "vm": "abc"}}).to_string();
    for greeting in ["", "garbage", "{}", "[1]", version.as_str()] {
        let dir = tempfile::tempdir().expect("a directory");
        let sent = greeting.to_owned();
        let _monitor = serve(dir.path(), move |socket| {
            hear(socket);
            socket.send(sent.as_bytes(), &[]).ok();
        });

        let refused = connect(dir.path());

        assert!(refused.is_err(), "{greeting:?} was taken for a greeting");
    }
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let answers = [
        json!({"id": 1, "ok": {}}),
        json!({"id": 1, "ok": {"transport": "pigeon"}}),
        json!({"id": 1}),
        json!("?"),
        // The right words, without the descriptor that should come with them.
        json!({"id": 1, "ok": {"transport": "vsock"}}),
    ];
    for answer in answers {
        let dir = tempfile::tempdir().expect("a directory");
        let sent = answer.clone();
        let _monitor = serve(dir.path(), move |socket| {
            hello(socket);
            hear(socket);
            say(socket, &sent);
        });
        let mut client = connect(dir.path()).expect("connects");

        let refused = client.open_channel(None);

        assert!(
            matches!(refused, Err(RequestError::Malformed(_) | RequestError::NoDescriptor)),
            "{answer}: {refused:?}"
        );
    }
}

#[test]
fn a_monitor_that_dies_in_the_middle_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let _monitor = serve(dir.path(), |socket| {
        hello(socket);
        hear(socket);
    });
    let mut client = connect(dir.path()).expect("connects");

    let refused = client.status();

    assert!(matches!(refused, Err(RequestError::Closed)), "{refused:?}");
}

#[test]
fn a_cancelled_request_returns_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let _monitor = serve(dir.path(), |socket| {
        hello(socket);
        hear(socket);
        thread::park();
    });
    let mut client = connect(dir.path()).expect("connects");
    let cancel = bandsox_client::Cancel::new();
    let _watch = client.watched_by(&cancel).expect("watched");

    let asking = thread::spawn(move || client.status());
    cancel.request();

    assert!(asking.join().expect("no panic").is_err());
}
