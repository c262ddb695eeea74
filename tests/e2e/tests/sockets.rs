//! Firecracker's vsock sockets: any tool that knows them reaches any port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use bandsox_e2e::{Storage, Vm, connect, eventually};

#[test]
fn connect_reaches_any_port_that_the_guest_listens_on() {
    let storage = Storage::new();
    let vm = storage.started("ports");
    connect(&vm.sockets(), 5000).expect_err("nobody listens there yet");
    listen(&vm, "5000 echo");
    let sent: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();

    let mut stream = connect(&vm.sockets(), 5000).expect("somebody does now");
    let mut reader = stream.try_clone().expect("a descriptor more");
    let received = thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    stream.write_all(&sent).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half a close");

    let received = received.join().expect("no panic").expect("received");
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
}

#[test]
fn many_connections_at_once_keep_apart() {
    let storage = Storage::new();
    let vm = storage.started("many");
    listen(&vm, "5001 receive");

    // This peer serves one after the other: all but the first wait in its backlog.
    let streams: Vec<_> = (1..=8_usize)
        .map(|n| {
            let mut stream = connect(&vm.sockets(), 5001).expect("connected");
            stream.write_all(&vec![b'x'; n * 10_000]).expect("sent");
            stream.shutdown(Shutdown::Write).expect("half a close");
            (n, stream)
        })
        .collect();

    for (n, mut stream) in streams {
        let mut count = [0; 8];
        stream.read_exact(&mut count).expect("answered");
        assert_eq!(u64::from_le_bytes(count), n as u64 * 10_000);
    }
}

#[test]
fn the_guests_connections_go_to_the_socket_of_their_port() {
    let storage = Storage::new();
    let vm = storage.started("outward");
    let refused = vm.exec(&["vsock-peer", "connect", "7777", "hello"]).output();
    assert!(!refused.status.success(), "there was nobody to connect to");
    let listener =
        UnixListener::bind(vm.sockets().join("vsock.sock_7777")).expect("the path is free");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("text");
        stream.write_all(format!("heard {heard}").as_bytes()).expect("sent");
    });

    let answer = vm.exec(&["vsock-peer", "connect", "7777", "hello"]).ok();

    assert_eq!(answer, "heard hello");
    server.join().expect("served");
}

#[test]
fn what_is_not_connect_is_turned_away_and_harms_nobody() {
    let storage = Storage::new();
    let vm = storage.started("rude");
    let path = vm.sockets().join("vsock.sock");

    for rude in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"CONNECT\n",
        b"CONNECT x\n",
        b"CONNECT 99999999999\n",
        &[b'C'; 4096],
    ] {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(bandsox_e2e::GENEROUS)).expect("ours");
        // It may hang up while we still speak.
        stream.write_all(rude).ok();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok();
        assert!(!line.starts_with("OK"), "{rude:?} was answered {line:?}");
    }
    let silent: Vec<_> = (0..50).map(|_| UnixStream::connect(&path).expect("it listens")).collect();
    assert_eq!(vm.sh("echo alive"), "alive");
    drop(silent);
    connect(&vm.sockets(), 9000).expect("the agent answers");
}

/// Starts `vsock-peer listen …` in the guest and waits until it listens.
fn listen(vm: &Vm<'_>, what: &str) {
    let port = what.split(' ').next().unwrap_or_default();
    vm.sh(&format!("vsock-peer listen {what} > /tmp/peer-{port} 2>&1 &"));
    eventually("the peer listens", || {
        (vm.sh(&format!("cat /tmp/peer-{port}")) == "listening").then_some(())
    });
}
