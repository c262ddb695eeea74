//! Guests that come, pause, go, and come back with another address.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bandsox_vsock::spec::Op;
use bandsox_vsock::{AttachError, Driver, Handle, Positions, QueueKind};

use crate::guest::{GENEROUS, Guest, Notifications};
use crate::streams::{connected, pattern};

#[test]
fn connections_go_on_when_a_paused_machine_goes_on() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    stream.socket().write_all(b"before").expect("written");
    assert_eq!(guest.receive_bytes(9000, host_port, 6), b"before");

    let at = device.detach().expect("it was attached");
    stream.socket().write_all(b"meanwhile").expect("the socket holds it");
    let silence = guest.receive_within(Duration::from_millis(50));
    device.attach(guest.attachment_at(Driver::Resumed, at)).expect("attached again");

    assert!(silence.is_none(), "a paused machine's memory was written to");
    assert_eq!(guest.receive_bytes(9000, host_port, 9), b"meanwhile");
    guest.send_bytes(9000, host_port, b"after");
    let mut after = [0; 5];
    stream.socket().read_exact(&mut after).expect("read");
    assert_eq!(&after, b"after");
}

#[test]
fn a_stream_that_is_interrupted_by_many_pauses_loses_and_repeats_nothing() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let sent = pattern(2_000_000);
    let writer = thread::spawn({
        let sent = sent.clone();
        move || stream.socket().write_all(&sent).map(|()| stream)
    });

    let mut arrived = Vec::new();
    for _ in 0..20 {
        arrived.extend(guest.receive_bytes(9000, host_port, 50_000));
        let at = device.detach().expect("it was attached");
        device.attach(guest.attachment_at(Driver::Resumed, at)).expect("attached again");
    }
    let rest = sent.len() - arrived.len();
    arrived.extend(guest.receive_bytes(9000, host_port, rest));

    assert!(arrived == sent);
    writer.join().expect("no panic").expect("written");
}

#[test]
fn a_fresh_driver_ends_old_connections_and_finds_the_listeners() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (sender, streams) = mpsc::channel();
    let _guard = device.listen(9000, Box::new(move |stream| sender.send(stream).expect("taken")));
    let (old, _) = connected(&mut guest, &device);
    device.detach();

    let mut guest = Guest::new(Notifications::EventIdx);
    guest.cid = 77;
    guest.post_all();
    device.attach(guest.attachment(Driver::Fresh)).expect("a good attachment");

    let mut rest = Vec::new();
    assert_eq!(old.socket().read_to_end(&mut rest).expect("an end"), 0);
    guest.send(1, 9000, Op::Request);
    assert_eq!(guest.receive().op(), Some(Op::Response), "nothing of the old guest comes first");
    streams.recv_timeout(GENEROUS).expect("a stream");
}

#[test]
fn closing_all_ends_every_stream_and_tells_the_guest() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let streams: Vec<_> = (0..3).map(|_| connected(&mut guest, &device)).collect();

    device.close_all();

    for (stream, _) in &streams {
        assert_eq!(stream.socket().read(&mut [0]).expect("an end"), 0);
        assert_eq!(guest.receive().op(), Some(Op::Reset));
    }
}

#[test]
fn memory_may_be_mapped_anew_while_bytes_flow() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let sent = pattern(1_000_000);
    let writer = thread::spawn({
        let sent = sent.clone();
        move || stream.socket().write_all(&sent).map(|()| stream)
    });

    let mut arrived = guest.receive_bytes(9000, host_port, 300_000);
    device.set_memory(guest.memory.clone());
    let rest = sent.len() - arrived.len();
    arrived.extend(guest.receive_bytes(9000, host_port, rest));

    assert!(arrived == sent);
    writer.join().expect("no panic").expect("written");
}

#[test]
fn queues_outside_memory_and_reserved_addresses_are_refused() {
    let guest = Guest::new(Notifications::EventIdx);
    let device = Handle::start().expect("a device");
    let small = vm_memory::GuestMemoryMmap::from_ranges(&[(vm_memory::GuestAddress(0), 0x1000)]);

    let mut outside = guest.attachment(Driver::Fresh);
    outside.memory = small.expect("a page").into();
    let mut reserved = guest.attachment(Driver::Fresh);
    reserved.guest_cid = 2;

    let refusal = device.attach(outside);
    assert!(matches!(refusal, Err(AttachError::Queue { queue: QueueKind::Rx })), "{refusal:?}");
    let refusal = device.attach(reserved);
    assert!(matches!(refusal, Err(AttachError::Cid { cid: 2 })), "{refusal:?}");
    assert_eq!(device.detach(), None);
}

#[test]
fn a_guest_that_was_never_used_is_where_it_began() {
    let (_guest, device) = Guest::attached(Notifications::EventIdx);

    assert_eq!(device.detach(), Some(Positions { rx: 0, tx: 0 }));
}

#[test]
fn an_attempt_to_connect_survives_a_driver_that_starts_anew() {
    let device = Handle::start().expect("a device");
    let connecting = thread::spawn({
        let device = device.clone();
        move || device.connect(9000, Instant::now() + GENEROUS)
    });
    // This one's driver never posts a receive buffer.
    let silent = Guest::new(Notifications::EventIdx);
    device.attach(silent.attachment(Driver::Fresh)).expect("a good attachment");

    let mut guest = Guest::new(Notifications::EventIdx);
    guest.post_all();
    device.attach(guest.attachment(Driver::Fresh)).expect("a good attachment");
    guest.accept(9000);

    connecting.join().expect("no panic").expect("accepted");
}
