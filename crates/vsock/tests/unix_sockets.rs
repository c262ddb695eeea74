//! The guest's ports on Unix sockets, in Firecracker's manner.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use bandsox_vsock::spec::Op;
use bandsox_vsock::{Handle, ListenGuard};

use crate::guest::{GENEROUS, Guest, Notifications};

fn served(device: &Handle, dir: &Path) -> ListenGuard {
    let dir = File::open(dir).expect("a directory");
    device.serve_unix(dir.into(), Path::new("vsock.sock")).expect("served")
}

fn client(dir: &Path) -> UnixStream {
    // The directory's path may be longer than an address.
    let dir = File::open(dir).expect("a directory");
    let path = format!("/proc/self/fd/{}/vsock.sock", dir.as_raw_fd());
    let stream = UnixStream::connect(path).expect("connected");
    stream.set_read_timeout(Some(GENEROUS)).expect("set");
    stream
}

fn line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") && stream.read(&mut byte).expect("read") == 1 {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

#[test]
fn a_client_names_a_port_and_is_connected_to_it() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = served(&device, dir.path());
    let mut client = client(dir.path());

    // What follows the line belongs to the connection already.
    client.write_all(b"CONNECT 9000\nhello").expect("written");
    let host_port = guest.accept(9000);
    let answer = line(&mut client);
    let hello = guest.receive_bytes(9000, host_port, 5);
    guest.send_bytes(9000, host_port, b"and back");
    let mut back = [0; 8];
    client.read_exact(&mut back).expect("read");

    assert_eq!(answer, format!("OK {host_port}\n"));
    assert_eq!(hello, b"hello");
    assert_eq!(&back, b"and back");
}

#[test]
fn a_line_may_come_in_pieces() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = served(&device, dir.path());
    let mut client = client(dir.path());

    for piece in ["CONN", "ECT ", "90", "00", "\n"] {
        client.write_all(piece.as_bytes()).expect("written");
        thread::sleep(Duration::from_millis(5));
    }
    guest.accept(9000);

    assert!(line(&mut client).starts_with("OK "));
}

#[test]
fn a_port_that_the_guest_refuses_ends_the_clients_connection() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = served(&device, dir.path());
    let mut client = client(dir.path());

    client.write_all(b"CONNECT 9000\n").expect("written");
    let request = guest.receive();
    guest.send(9000, request.header.src_port, Op::Reset);

    assert_eq!(line(&mut client), "");
}

#[test]
fn nonsense_ends_the_clients_connection_and_no_other() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = served(&device, dir.path());
    let nonsense: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", b"CONNECT\n", b"CONNECT -1\n", &[b'x'; 1000], b"\n"];

    for words in nonsense {
        let mut client = client(dir.path());
        client.write_all(words).expect("written");
        let mut rest = Vec::new();
        // A reset, if not all of it was read.
        let ended = client.read_to_end(&mut rest);
        assert!(matches!(ended, Ok(0)) || ended.is_err(), "{words:?}");
    }
    let mut client = client(dir.path());
    client.write_all(b"CONNECT 9000\n").expect("written");
    guest.accept(9000);

    assert!(line(&mut client).starts_with("OK "));
}

#[test]
fn clients_that_say_nothing_are_bounded_in_number() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = served(&device, dir.path());

    let silent: Vec<_> = (0..100).map(|_| client(dir.path())).collect();
    let mut ended = 0;
    for stream in &silent {
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        ended += usize::from(matches!((&*stream).read(&mut [0]), Ok(0)));
    }
    drop(silent);
    thread::sleep(Duration::from_millis(50));
    let mut client = client(dir.path());
    client.write_all(b"CONNECT 9000\n").expect("written");
    guest.accept(9000);

    assert_eq!(ended, 36);
    assert!(line(&mut client).starts_with("OK "));
}

#[test]
fn a_port_of_the_host_may_be_served_by_another_program() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let dir = tempfile::tempdir().expect("a directory");
    let _guard = served(&device, dir.path());
    let listener = UnixListener::bind(dir.path().join("vsock.sock_7000")).expect("bound");

    guest.send(1234, 7000, Op::Request);
    assert_eq!(guest.receive().op(), Some(Op::Response));
    guest.send_bytes(1234, 7000, b"hello");
    let (mut stream, _) = listener.accept().expect("accepted");
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).expect("read");

    assert_eq!(&hello, b"hello");
    guest.send(1234, 7001, Op::Request);
    assert_eq!(guest.receive_essential().op(), Some(Op::Reset), "nobody serves that one");
}

#[test]
fn a_directory_with_a_long_path_is_served_for_its_owner_only() {
    let (_guest, device) = Guest::attached(Notifications::EventIdx);
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("x".repeat(100)).join("y".repeat(100));
    fs::create_dir_all(&dir).expect("made");
    // Left behind by somebody who died.
    drop(UnixListener::bind(root.path().join("stale")).expect("bound"));
    fs::rename(root.path().join("stale"), dir.join("vsock.sock")).expect("renamed");

    let guard = served(&device, &dir);
    let mode = fs::metadata(dir.join("vsock.sock")).expect("there").permissions().mode();
    client(&dir);
    drop(guard);

    assert_eq!(mode & 0o777, 0o600);
    let gone = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        !dir.join("vsock.sock").exists()
    });
    assert!(gone, "the socket goes with its guard");
}
