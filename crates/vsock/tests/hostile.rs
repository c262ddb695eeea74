//! Guests that break the rules.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use bandsox_vsock::spec::{HEADER_LEN, Op};
use bandsox_vsock::{ConnectError, Driver, Handle, Header};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use crate::guest::{GENEROUS, Guest, Notifications, Part};
use crate::streams::connected;

/// The device still does its work for a driver that keeps the rules.
fn assert_alive(device: &Handle) {
    let mut guest = Guest::new(Notifications::EventIdx);
    guest.post_all();
    device.attach(guest.attachment(Driver::Fresh)).expect("a good attachment");
    let (stream, host_port) = connected(&mut guest, device);
    stream.socket().write_all(b"alive").expect("written");
    assert_eq!(guest.receive_bytes(9000, host_port, 5), b"alive");
}

fn wait_for_refusals(device: &Handle, count: u64) {
    let until = Instant::now() + GENEROUS;
    while device.stats().refused < count {
        assert!(Instant::now() < until, "{:?}", device.stats());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn chains_that_are_no_packets_are_given_back_and_counted() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let good = guest.header(1, 2, Op::ReadWrite);
    guest
        .memory
        .write_slice(&Header { len: 9999, ..good }.to_bytes(), GuestAddress(0x60_0000))
        .expect("written");
    let header = Part { at: 0x60_0000, len: HEADER_LEN, writable: false };

    // Too short, outside of memory, at its edge, around the end of addresses, a lie about the
    // payload, nothing to read at all.
    guest.tx.add(&[Part { len: HEADER_LEN - 1, ..header }]);
    guest.tx.add(&[Part { at: 1 << 40, ..header }]);
    guest.tx.add(&[Part { at: (16 << 20) - 10, ..header }]);
    guest.tx.add(&[header, Part { at: u64::MAX - 5, len: 100, writable: false }]);
    guest.tx.add(&[header, Part { at: 0x61_0000, len: 9998, writable: false }]);
    guest.tx.add(&[Part { writable: true, ..header }]);
    guest.tx.kick();

    wait_for_refusals(&device, 6);
    assert_alive(&device);
}

#[test]
fn a_chain_that_bites_its_tail_ends() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    guest.tx.write_descriptor(0, 0x60_0000, 1, 1, 1);
    guest.tx.write_descriptor(1, 0x60_0000, 1, 1, 0);
    guest.tx.make_available(0);
    // An indirect table that holds itself, and one of a length that no table has.
    guest.tx.write_descriptor(4, 0x61_0000, 16, 4, 0);
    guest.memory.write_obj(0x61_0000_u64, GuestAddress(0x61_0000)).expect("written");
    guest.memory.write_obj(16_u32, GuestAddress(0x61_0008)).expect("written");
    guest.memory.write_obj(4_u16, GuestAddress(0x61_000c)).expect("written");
    guest.tx.make_available(4);
    guest.tx.write_descriptor(5, 0x61_0000, 17, 4, 0);
    guest.tx.make_available(5);
    // A head and a next that are no indices.
    guest.tx.make_available(5000);
    guest.tx.write_descriptor(6, 0x60_0000, 44, 1, 6000);
    guest.tx.make_available(6);
    guest.tx.kick();

    thread::sleep(Duration::from_millis(50));

    assert_alive(&device);
}

#[test]
fn an_index_that_jumps_stops_the_queue_until_the_next_driver() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    guest.tx.set_available(40_000);
    guest.tx.kick();
    guest.rx.set_available(40_000);
    guest.rx.kick();

    thread::sleep(Duration::from_millis(50));
    let error = device.connect(9000, Instant::now() + Duration::from_millis(50));

    // Buffers that were posted before the jump may still have been used.
    assert!(matches!(error, Err(ConnectError::TimedOut { .. })));
    assert_alive(&device);
}

#[test]
fn packets_with_foreign_addresses_or_kinds_reach_nobody() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let good = Header { len: 4, ..guest.header(9000, host_port, Op::ReadWrite) };

    guest.send_packet(Header { src_cid: 4, ..good }, b"evil");
    guest.send_packet(Header { dst_cid: 1, ..good }, b"evil");
    guest.send_packet(Header { dst_cid: u64::MAX, ..good }, b"evil");
    guest.send_packet(Header { dst_port: host_port + 1, ..good }, b"evil");
    guest.send_packet(good, b"good");

    let mut got = [0; 4];
    stream.socket().read_exact(&mut got).expect("read");
    assert_eq!(&got, b"good");
    let reset = guest.receive_essential();
    assert_eq!((reset.op(), reset.header.src_port), (Some(Op::Reset), host_port + 1));
    assert_eq!(device.stats().refused, 3);
}

#[test]
fn operations_that_make_no_sense_break_the_connection_they_name() {
    let nonsense: [fn(Header) -> Header; 5] = [
        |header| Header { op: 0, ..header },
        |header| Header { op: 99, ..header },
        |header| Header { kind: 2, ..header },
        |header| Header { op: Op::Request.to_wire(), ..header },
        |header| Header { op: Op::Response.to_wire(), ..header },
    ];
    for spoil in nonsense {
        let (mut guest, device) = Guest::attached(Notifications::EventIdx);
        let (stream, host_port) = connected(&mut guest, &device);
        let header = spoil(guest.header(9000, host_port, Op::CreditUpdate));

        guest.send_packet(header, &[]);

        assert_eq!(guest.receive_essential().op(), Some(Op::Reset), "{header:?}");
        assert_eq!(stream.socket().read(&mut [0]).expect("an end"), 0);
    }
}

#[test]
fn a_guest_that_sends_without_credit_is_cut_off() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);

    // Nobody reads: the socket takes some, the window the rest, and then it is enough.
    let chunk = vec![1; 60_000];
    let reset = (0..2000).find_map(|_| {
        guest.send_bytes(9000, host_port, &chunk);
        let packet = guest.receive_within(Duration::ZERO)?;
        Some(packet).filter(|packet| packet.op() == Some(Op::Reset))
    });

    assert!(reset.is_some(), "more than 100 MB were taken");
    let mut all = Vec::new();
    stream.socket().read_to_end(&mut all).expect("an end");
    assert!(all.len() < 4 << 20, "{} bytes were kept", all.len());
}

#[test]
fn nothing_follows_the_end_that_the_guest_has_announced() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let header = guest.header(9000, host_port, Op::Shutdown);
    guest.send_packet(Header { flags: 2, ..header }, &[]);

    guest.send_bytes(9000, host_port, b"one more thing");

    assert_eq!(guest.receive_essential().op(), Some(Op::Reset));
    let mut all = Vec::new();
    stream.socket().read_to_end(&mut all).expect("an end");
    assert_eq!(all, b"");
}

#[test]
fn connections_are_bounded_in_number() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (sender, streams) = std::sync::mpsc::channel();
    let _guard = device.listen(9000, Box::new(move |stream| sender.send(stream).expect("taken")));

    let mut accepted = 0;
    let mut refused = 0;
    for port in 0..1100 {
        guest.send(port, 9000, Op::Request);
        match guest.receive_essential().op() {
            Some(Op::Response) => accepted += 1,
            _ => refused += 1,
        }
    }
    let error = device.connect(1, Instant::now() + GENEROUS).expect_err("no room");
    let held: Vec<_> = streams.iter().take(accepted).collect();

    assert_eq!((accepted, refused), (1024, 76));
    assert!(matches!(error, ConnectError::TooMany { limit: 1024 }), "{error}");
    drop(held);
}

#[test]
fn a_guest_that_takes_no_answers_is_not_answered_without_bound() {
    let device = Handle::start().expect("a device");
    let mut guest = Guest::new(Notifications::EventIdx);
    device.attach(guest.attachment(Driver::Fresh)).expect("a good attachment");

    // No receive buffers, and requests to a port that nobody serves.
    let mut sent = 0;
    while sent < 2000 && guest.tx.free() >= 2 {
        guest.send(sent, 9999, Op::Request);
        sent += 1;
        guest.tx.wait_for_interrupt(
            Duration::from_millis(200)
                .min(Duration::from_millis(u64::from(guest.tx.free() < 4) * 200)),
        );
        guest.tx.take_used();
    }
    guest.post_all();
    let mut resets = 0;
    while guest.receive_within(Duration::from_millis(300)).is_some() {
        resets += 1;
    }

    assert!(sent < 1000, "{sent} requests were taken");
    assert_eq!(resets, sent, "all are answered once there is room");
}

#[test]
fn receive_buffers_that_are_no_use_are_given_back_empty() {
    let device = Handle::start().expect("a device");
    let mut guest = Guest::new(Notifications::EventIdx);
    let good = Part { at: 0x10_0000, len: 4096, writable: true };
    guest.reposts = false;
    guest.rx.add(&[Part { len: 10, ..good }]);
    guest.rx.add(&[Part { at: 1 << 50, ..good }]);
    guest.rx.add(&[Part { writable: false, ..good }]);
    guest.rx.add(&[good]);
    device.attach(guest.attachment(Driver::Fresh)).expect("a good attachment");

    let connecting = thread::spawn({
        let device = device.clone();
        move || device.connect(9000, Instant::now() + GENEROUS).map(drop)
    });
    let host_port = guest.accept(9000);

    connecting.join().expect("no panic").expect("accepted");
    assert_eq!(device.stats().refused, 3);
    assert!(host_port >= 0x4000_0000);
}

#[derive(Clone, Debug)]
struct Junk {
    parts: Vec<(u64, u32, bool)>,
    header: [u64; 5],
    bytes: Vec<u8>,
}

fn junk() -> impl Strategy<Value = Junk> {
    let part = (
        prop_oneof![0..(17_u64 << 20), any::<u64>(), Just(0x60_0000)],
        prop_oneof![0..5000_u32, any::<u32>(), Just(44)],
        any::<bool>(),
    );
    let parts = proptest::collection::vec(part, 1..6);
    (parts, any::<[u64; 5]>(), proptest::collection::vec(any::<u8>(), 0..100))
        .prop_map(|(parts, header, bytes)| Junk { parts, header, bytes })
}

/// A header of which each field is right more often than not.
fn doubtful(guest: &Guest, host_port: u32, dice: [u64; 5]) -> Header {
    let [a, b, c, d, e] = dice;
    let half = |value: u64| u32::try_from(value & 0xffff_ffff).expect("32 bits");
    let quarter = |value: u64| u16::try_from(value & 0xffff).expect("16 bits");
    Header {
        src_cid: if a % 8 == 0 { a } else { u64::from(guest.cid) },
        dst_cid: if b % 8 == 0 { b } else { 2 },
        src_port: if c % 4 == 0 { half(c >> 3) } else { 9000 },
        dst_port: if c % 3 == 0 { half(c >> 5) } else { host_port },
        len: if d % 2 == 0 { half(d >> 2) } else { half(d >> 2) % 200 },
        kind: if a % 9 == 0 { quarter(a >> 7) } else { 1 },
        op: quarter(e) % 9,
        flags: half(e >> 16),
        buf_alloc: half(a >> 20),
        fwd_cnt: half(b >> 20),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is in its queues, the device lives and serves the next driver.
    #[test]
    fn no_sequence_of_chains_stops_the_device(
        chains in proptest::collection::vec((junk(), any::<bool>()), 1..40),
    ) {
        let (mut guest, device) = Guest::attached(Notifications::EventIdx);
        let (stream, host_port) = connected(&mut guest, &device);
        stream.socket().write_all(&[5; 3000]).expect("written");

        for (Junk { parts, header, bytes }, is_packet) in chains {
            if is_packet {
                let header = doubtful(&guest, host_port, header);
                guest.send_packet(header, &bytes);
            } else if guest.tx.free() > 6 {
                let parts: Vec<Part> = parts
                    .iter()
                    .map(|&(at, len, writable)| Part { at, len, writable })
                    .collect();
                guest.tx.add(&parts);
                guest.tx.kick();
            }
        }

        drop(stream);
        assert_alive(&device);
    }
}
