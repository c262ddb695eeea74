//! How connections begin.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bandsox_vsock::spec::Op;
use bandsox_vsock::{ConnectError, ListenError};

use crate::guest::{GENEROUS, Guest, Notifications};

fn soon() -> Instant {
    Instant::now() + GENEROUS
}

#[test]
fn the_host_connects_and_bytes_go_both_ways() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let connecting = thread::spawn({
        let device = device.clone();
        move || device.connect(9000, soon())
    });
    let host_port = guest.accept(9000);
    let stream = connecting.join().expect("no panic").expect("accepted");
    let mut socket = stream.socket();

    socket.write_all(b"to the guest").expect("written");
    let arrived = guest.receive_bytes(9000, host_port, 12);
    guest.send_bytes(9000, host_port, b"to the host");
    let mut answer = [0; 11];
    socket.read_exact(&mut answer).expect("read");

    assert_eq!(arrived, b"to the guest");
    assert_eq!(&answer, b"to the host");
    assert_eq!(stream.guest_port(), 9000);
    assert_eq!(stream.host_port(), host_port);
}

#[test]
fn a_port_that_nobody_listens_on_is_refused_at_once() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let connecting = thread::spawn(move || device.connect(9000, soon()));

    let request = guest.receive();
    guest.send(9000, request.header.src_port, Op::Reset);

    let error = connecting.join().expect("no panic").expect_err("refused");
    assert!(matches!(error, ConnectError::Refused { port: 9000 }), "{error}");
}

#[test]
fn a_guest_that_does_not_answer_is_given_up_and_told_so() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);

    let error =
        device.connect(9000, Instant::now() + Duration::from_millis(50)).expect_err("no answer");

    assert!(matches!(error, ConnectError::TimedOut { port: 9000 }), "{error}");
    let request = guest.receive();
    assert_eq!(request.op(), Some(Op::Request));
    let reset = guest.receive();
    assert_eq!(reset.op(), Some(Op::Reset));
    assert_eq!(reset.header.src_port, request.header.src_port);
}

#[test]
fn a_connection_asked_for_before_there_is_a_guest_waits_for_one() {
    let mut guest = Guest::new(Notifications::EventIdx);
    let device = bandsox_vsock::Handle::start().expect("a device");
    let connecting = thread::spawn({
        let device = device.clone();
        move || device.connect(9000, soon())
    });
    guest.post_all();

    device.attach(guest.attachment(bandsox_vsock::Driver::Fresh)).expect("a good attachment");
    guest.accept(9000);

    connecting.join().expect("no panic").expect("accepted");
}

#[test]
fn the_guest_reaches_a_listener_of_this_process() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (sender, streams) = mpsc::channel();
    let _guard = device.listen(9000, Box::new(move |stream| sender.send(stream).expect("taken")));

    guest.send(1234, 9000, Op::Request);
    let response = guest.receive();
    guest.send_bytes(1234, 9000, b"hello");
    let stream = streams.recv_timeout(GENEROUS).expect("a stream");
    let mut hello = [0; 5];
    stream.socket().read_exact(&mut hello).expect("read");

    assert_eq!(response.op(), Some(Op::Response));
    assert_eq!(&hello, b"hello");
    assert_eq!((stream.guest_port(), stream.host_port()), (1234, 9000));
}

#[test]
fn a_host_port_without_a_listener_is_refused() {
    let (mut guest, _device) = Guest::attached(Notifications::EventIdx);

    guest.send(1234, 9000, Op::Request);

    let reset = guest.receive();
    assert_eq!(reset.op(), Some(Op::Reset));
    assert_eq!((reset.header.dst_port, reset.header.src_port), (1234, 9000));
}

#[test]
fn a_port_has_one_listener_at_a_time() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let first = device.listen(9000, Box::new(drop)).expect("free");

    let second = device.listen(9000, Box::new(drop));
    drop(first);
    let third = device.listen(9000, Box::new(drop));
    drop(third);
    // The guard does not wait for the device; what comes a little later finds nobody.
    let refused = (0..1000).any(|port| {
        guest.send(port, 9000, Op::Request);
        guest.receive_essential().op() == Some(Op::Reset)
    });

    assert!(matches!(second, Err(ListenError::InUse { port: 9000 })));
    assert!(refused, "the port is free again");
}

#[test]
fn a_listener_may_connect_back_from_its_callback() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (sender, streams) = mpsc::channel();
    let caller = device.clone();
    let _guard = device
        .listen(9000, Box::new(move |_| sender.send(caller.connect(5000, soon())).expect("taken")));

    guest.send(1234, 9000, Op::Request);
    assert_eq!(guest.receive().op(), Some(Op::Response));
    // The first stream is dropped only after the second connection stands.
    guest.accept(5000);

    streams.recv_timeout(GENEROUS).expect("called").expect("connected");
}

#[test]
fn the_last_handle_takes_the_device_and_its_streams_along() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let connecting = thread::spawn({
        let device = device.clone();
        move || device.connect(9000, soon())
    });
    guest.accept(9000);
    let stream = connecting.join().expect("no panic").expect("accepted");

    drop(device);

    let mut rest = Vec::new();
    assert_eq!(stream.socket().read_to_end(&mut rest).expect("an end"), 0);
}
