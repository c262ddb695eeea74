//! What happens on a connection once it stands.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bandsox_vsock::spec::{Op, shutdown};
use bandsox_vsock::{Handle, Header, Stream};

use crate::guest::{GENEROUS, Guest, Notifications};

/// A connection from the host to port 9000; also the host's port.
pub(crate) fn connected(guest: &mut Guest, device: &Handle) -> (Stream, u32) {
    let connecting = thread::spawn({
        let device = device.clone();
        move || device.connect(9000, Instant::now() + GENEROUS)
    });
    let host_port = guest.accept(9000);
    (connecting.join().expect("no panic").expect("accepted"), host_port)
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0_u64..)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(len)
        .collect()
}

#[test]
fn much_data_arrives_whole_at_the_guest_within_its_credit() {
    for notifications in [Notifications::EventIdx, Notifications::Flags] {
        let (mut guest, device) = Guest::attached(notifications);
        guest.window = 40_000;
        let (stream, host_port) = connected(&mut guest, &device);
        let sent = pattern(3_000_000);
        let writer = thread::spawn({
            let sent = sent.clone();
            move || stream.socket().write_all(&sent).map(|()| stream)
        });

        let arrived = guest.receive_bytes(9000, host_port, sent.len());

        assert!(arrived == sent, "{notifications:?}");
        writer.join().expect("no panic").expect("written");
    }
}

#[test]
fn more_than_the_guests_window_is_never_in_flight() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    guest.window = 10_000;
    let (stream, _) = connected(&mut guest, &device);
    stream.socket().write_all(&pattern(100_000)).expect("the socket holds it");

    let mut arrived = 0;
    while let Some(packet) = guest.receive_within(Duration::from_millis(200)) {
        arrived += packet.payload.len();
    }

    assert_eq!(arrived, 10_000);
}

#[test]
fn much_data_arrives_whole_at_the_host() {
    for notifications in [Notifications::EventIdx, Notifications::Flags] {
        let (mut guest, device) = Guest::attached(notifications);
        let (stream, host_port) = connected(&mut guest, &device);
        let sent = pattern(3_000_000);
        let reader = thread::spawn(move || {
            let mut all = vec![0; 3_000_000];
            stream.socket().read_exact(&mut all).map(|()| all)
        });

        let mut sender = CreditedSender::new(host_port);
        for chunk in sent.chunks(50_000) {
            sender.send(&mut guest, chunk);
        }

        assert!(reader.join().expect("no panic").expect("read") == sent, "{notifications:?}");
    }
}

/// A sender that never has more in flight than the host has told of.
pub(crate) struct CreditedSender {
    host_port: u32,
    sent: u32,
    window: u32,
    taken: u32,
}

impl CreditedSender {
    pub(crate) fn new(host_port: u32) -> Self {
        // What a request has told of first.
        Self { host_port, sent: 0, window: 64 << 10, taken: 0 }
    }

    pub(crate) fn send(&mut self, guest: &mut Guest, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("short");
        while self.window - (self.sent - self.taken) < len {
            self.hear(&guest.receive().header);
        }
        while let Some(packet) = guest.receive_within(Duration::ZERO) {
            self.hear(&packet.header);
        }
        guest.send_bytes(9000, self.host_port, bytes);
        self.sent += len;
    }

    fn hear(&mut self, header: &Header) {
        assert_eq!(header.src_port, self.host_port);
        assert_ne!(header.op, Op::Reset.to_wire(), "the host broke the connection");
        self.window = header.buf_alloc;
        self.taken = header.fwd_cnt;
    }
}

#[test]
fn the_end_of_the_hosts_bytes_reaches_the_guest_behind_them() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);

    stream.socket().write_all(b"last words").expect("written");
    stream.socket().shutdown(Shutdown::Write).expect("shut down");

    assert_eq!(guest.receive_bytes(9000, host_port, 10), b"last words");
    let end = guest.receive_essential();
    assert_eq!((end.op(), end.header.flags), (Some(Op::Shutdown), shutdown::SEND));
    guest.send_bytes(9000, host_port, b"still here");
    let mut answer = [0; 10];
    stream.socket().read_exact(&mut answer).expect("the other half is open");
    assert_eq!(&answer, b"still here");
}

#[test]
fn the_end_of_the_guests_bytes_reaches_the_host_behind_them() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);

    guest.send_bytes(9000, host_port, b"last words");
    let header = guest.header(9000, host_port, Op::Shutdown);
    guest.send_packet(Header { flags: shutdown::SEND, ..header }, &[]);

    let mut all = Vec::new();
    stream.socket().read_to_end(&mut all).expect("read to the end");
    assert_eq!(all, b"last words");
    stream.socket().write_all(b"still here").expect("the other half is open");
    assert_eq!(guest.receive_bytes(9000, host_port, 10), b"still here");
}

#[test]
fn a_stream_that_is_dropped_is_shut_down_for_the_guest() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, _) = connected(&mut guest, &device);

    drop(stream);

    let end = guest.receive_essential();
    assert_eq!((end.op(), end.header.flags), (Some(Op::Shutdown), shutdown::BOTH));
}

#[test]
fn a_guest_that_closes_is_answered_and_its_bytes_are_still_read() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);

    guest.send_bytes(9000, host_port, b"goodbye");
    let header = guest.header(9000, host_port, Op::Shutdown);
    guest.send_packet(Header { flags: shutdown::BOTH, ..header }, &[]);

    assert_eq!(guest.receive_essential().op(), Some(Op::Reset));
    let mut all = Vec::new();
    stream.socket().read_to_end(&mut all).expect("read to the end");
    assert_eq!(all, b"goodbye");
}

#[test]
fn a_guest_that_resets_ends_the_stream_behind_its_bytes() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);

    guest.send_bytes(9000, host_port, b"crash");
    guest.send(9000, host_port, Op::Reset);

    let mut all = Vec::new();
    stream.socket().read_to_end(&mut all).expect("read to the end");
    assert_eq!(all, b"crash");
}

#[test]
fn an_orderly_end_is_no_reset_even_if_the_guest_left_bytes_unread() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    guest.window = 100;
    let (stream, host_port) = connected(&mut guest, &device);
    stream.socket().write_all(&[7; 5000]).expect("written");
    assert_eq!(guest.receive().payload.len(), 100);

    let header = guest.header(9000, host_port, Op::Shutdown);
    guest.send_packet(Header { flags: shutdown::BOTH, ..header }, &[]);

    let mut all = Vec::new();
    assert_eq!(stream.socket().read_to_end(&mut all).expect("an end, not an error"), 0);
}

#[test]
fn a_user_that_does_not_read_holds_up_nobody_else() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stuck, stuck_port) = connected(&mut guest, &device);
    let (stream, host_port) = connected(&mut guest, &device);
    let mut sender = CreditedSender::new(stuck_port);
    let mut unread = Vec::new();
    // All that the stuck connection's window takes, and as much again as its socket holds.
    while sender.sent - sender.taken < 200_000 && sender.sent < 4_000_000 {
        let chunk = pattern(10_000);
        sender.send(&mut guest, &chunk);
        unread.extend(chunk);
    }

    guest.send_bytes(9000, host_port, b"me too");
    let mut got = [0; 6];
    stream.socket().read_exact(&mut got).expect("read");
    let mut all = vec![0; unread.len()];
    stuck.socket().read_exact(&mut all).expect("read");

    assert_eq!(&got, b"me too");
    assert!(all == unread, "nothing of what waited was lost");
}

#[test]
fn a_short_message_does_not_wait_behind_a_long_stream() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    guest.window = 4 << 20;
    let (bulk, _) = connected(&mut guest, &device);
    let (short, short_port) = connected(&mut guest, &device);
    guest.reposts = false;
    let writer = thread::spawn(move || bulk.socket().write_all(&pattern(4 << 20)));
    // The stream takes all that it may have.
    guest.receive();
    let mut first = 1;
    while guest.receive_within(Duration::from_millis(100)).is_some() {
        first += 1;
    }

    short.socket().write_all(b"short").expect("written");
    let mut packet = guest.receive();
    while packet.header.src_port != short_port {
        packet = guest.receive();
    }

    assert_eq!(packet.payload, b"short");
    assert!(first > 40, "the stream got {first} packets");
    drop(device);
    writer.join().expect("no panic").expect_err("the device is gone");
}

#[test]
fn a_credit_request_is_answered() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (_stream, host_port) = connected(&mut guest, &device);

    guest.send(9000, host_port, Op::CreditRequest);

    let answer = guest.receive();
    assert_eq!(answer.op(), Some(Op::CreditUpdate));
    assert_eq!((answer.header.buf_alloc, answer.header.fwd_cnt), (64 << 10, 0));
}

#[test]
fn a_breaker_ends_a_stream_from_another_thread() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let breaker = stream.breaker();
    let (sender, ends) = mpsc::channel();
    thread::spawn(move || sender.send(stream.socket().read(&mut [0])));

    breaker.break_connection();

    assert_eq!(ends.recv_timeout(GENEROUS).expect("ended").expect("an end"), 0);
    let reset = guest.receive();
    assert_eq!((reset.op(), reset.header.src_port), (Some(Op::Reset), host_port));
}

#[test]
fn one_mebibyte_is_counted_as_such() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let writer =
        thread::spawn(move || stream.socket().write_all(&pattern(1 << 20)).map(|()| stream));

    guest.receive_bytes(9000, host_port, 1 << 20);

    writer.join().expect("no panic").expect("written");
    let stats = device.stats();
    assert_eq!(stats.bytes_to_guest, 1 << 20);
    assert_eq!(stats.connections, 1);
    assert_eq!(stats.refused, 0);
}
