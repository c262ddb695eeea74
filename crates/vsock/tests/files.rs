//! Files straight to guest memory and back.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bandsox_vsock::SpliceError;
use bandsox_vsock::spec::Op;
use xxhash_rust::xxh64::xxh64;

use crate::guest::{Guest, Notifications};
use crate::streams::{CreditedSender, connected, pattern};

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

fn content(mut file: File) -> Vec<u8> {
    let mut all = Vec::new();
    file.rewind().expect("rewound");
    file.read_to_end(&mut all).expect("read");
    all
}

#[test]
fn a_file_reaches_the_guest_behind_what_was_written_before_it() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let bytes = pattern(1_000_001);
    let sender = thread::spawn({
        let file = file_of(&bytes);
        move || {
            let progress = AtomicU64::new(0);
            stream.socket().write_all(b"header").expect("written");
            let hash = stream.send_file(&file, &[(1, 1_000_000)], &progress);
            stream.socket().write_all(b"trailer").expect("written");
            (hash, progress.into_inner())
        }
    });

    let arrived = guest.receive_bytes(9000, host_port, 6 + 1_000_000 + 7);

    let (hash, progress) = sender.join().expect("no panic");
    assert!(arrived == [b"header", &bytes[1..], b"trailer"].concat());
    assert_eq!(hash.expect("sent"), xxh64(&bytes[1..], 0));
    assert_eq!(progress, 1_000_000);
}

#[test]
fn scattered_extents_arrive_as_one_run_of_full_packets() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let bytes = pattern(400_000);
    let extents: Vec<(u64, u64)> = (0..200).map(|nth| (nth * 2000, 1000)).collect();
    let wanted: Vec<u8> =
        bytes.chunks(2000).flat_map(|chunk| chunk.iter().take(1000)).copied().collect();
    let sender = thread::spawn({
        let file = file_of(&bytes);
        move || stream.send_file(&file, &extents, &AtomicU64::new(0)).map(|hash| (hash, stream))
    });

    let arrived = guest.receive_bytes(9000, host_port, 200_000);

    let (hash, _stream) = sender.join().expect("no panic").expect("sent");
    assert!(arrived == wanted);
    assert_eq!(hash, xxh64(&wanted, 0));
    assert!(device.stats().packets_to_guest < 80, "{:?}", device.stats());
}

#[test]
fn a_file_that_ends_early_is_named_and_leaves_the_stream_usable() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let bytes = pattern(100_000);
    let sender = thread::spawn({
        let file = file_of(&bytes);
        move || {
            let error = stream.send_file(&file, &[(0, 300_000)], &AtomicU64::new(0));
            stream.socket().write_all(b"sorry").expect("written");
            (error, stream)
        }
    });

    let arrived = guest.receive_bytes(9000, host_port, 100_005);

    let (result, _stream) = sender.join().expect("no panic");
    let error = result.expect_err("the file is too short");
    assert!(matches!(error, SpliceError::SourceEnded { offset: 100_000 }), "{error}");
    assert!(arrived == [&bytes[..], b"sorry"].concat());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_at_once() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, _) = connected(&mut guest, &device);
    let unreadable = File::options().write(true).open("/dev/null").expect("a file");

    let error =
        stream.send_file(&unreadable, &[(0, 10)], &AtomicU64::new(0)).expect_err("unreadable");

    assert!(matches!(error, SpliceError::Read { offset: 0, .. }), "{error}");
}

#[test]
fn what_the_guest_sends_lands_in_the_file_and_what_follows_in_the_socket() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let bytes = pattern(1_000_000);
    let receiver = thread::spawn(move || {
        let file = tempfile::tempfile().expect("a file");
        let progress = AtomicU64::new(0);
        let extents = [(5, 300_000), (400_000, 700_000)];
        let hash = stream.receive_file(b"go", &file, &extents, &progress).expect("received");
        let mut trailer = [0; 7];
        stream.socket().read_exact(&mut trailer).expect("read");
        (hash, content(file), trailer, progress.into_inner())
    });
    assert_eq!(guest.receive_bytes(9000, host_port, 2), b"go");

    let mut sender = CreditedSender::new(host_port);
    let mut all = bytes.clone();
    all.extend_from_slice(b"trailer");
    // The last packet has bytes of both.
    for chunk in all.chunks(30_000) {
        sender.send(&mut guest, chunk);
    }

    let (hash, file, trailer, progress) = receiver.join().expect("no panic");
    assert_eq!(hash, xxh64(&bytes, 0));
    assert!(file[5..300_005] == bytes[..300_000]);
    assert!(file[400_000..] == bytes[300_000..]);
    assert_eq!(&trailer, b"trailer");
    assert_eq!(progress, 1_000_000);
}

#[test]
fn many_small_packets_for_a_file_do_not_use_up_the_ring() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let bytes = pattern(50_000);
    let receiver = thread::spawn(move || {
        let file = tempfile::tempfile().expect("a file");
        let hash = stream.receive_file(b"go", &file, &[(0, 50_000)], &AtomicU64::new(0));
        (hash, content(file))
    });
    assert_eq!(guest.receive_bytes(9000, host_port, 2), b"go");

    for chunk in bytes.chunks(50) {
        guest.send_bytes(9000, host_port, chunk);
    }

    let (hash, file) = receiver.join().expect("no panic");
    assert_eq!(hash.expect("received"), xxh64(&bytes, 0));
    assert!(file == bytes);
}

#[test]
fn a_file_that_cannot_be_written_resets_the_connection() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let receiver = thread::spawn(move || {
        let full = File::options().write(true).open("/dev/full").expect("a file");
        stream.receive_file(b"go", &full, &[(0, 10_000)], &AtomicU64::new(0)).map(drop)
    });
    assert_eq!(guest.receive_bytes(9000, host_port, 2), b"go");

    guest.send_bytes(9000, host_port, &[1; 10_000]);

    let error = receiver.join().expect("no panic").expect_err("nowhere to write to");
    assert!(matches!(error, SpliceError::Write { offset: 0, .. }), "{error}");
    assert_eq!(guest.receive_essential().op(), Some(Op::Reset));
}

#[test]
fn a_guest_that_closes_in_the_middle_ends_a_transfer_either_way() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut out, out_port) = connected(&mut guest, &device);
    let (mut back, back_port) = connected(&mut guest, &device);
    let sender = thread::spawn(move || {
        let file = file_of(&pattern(1_000_000));
        out.send_file(&file, &[(0, 1_000_000)], &AtomicU64::new(0))
    });
    let receiver = thread::spawn(move || {
        let file = tempfile::tempfile().expect("a file");
        let result = back.receive_file(b"go", &file, &[(0, 1_000_000)], &AtomicU64::new(0));
        (result, content(file))
    });
    for _ in 0..2 {
        guest.receive_essential();
    }

    guest.send(9000, out_port, Op::Reset);
    guest.send_bytes(9000, back_port, b"some of it");
    guest.send(9000, back_port, Op::Reset);

    assert!(matches!(sender.join().expect("no panic"), Err(SpliceError::Closed)));
    let (result, file) = receiver.join().expect("no panic");
    assert!(matches!(result, Err(SpliceError::Closed)));
    assert_eq!(file, b"some of it", "what came before the end is in the file");
}

#[test]
fn a_breaker_ends_a_transfer_that_waits_for_the_guest() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    guest.window = 1000;
    let (mut stream, _) = connected(&mut guest, &device);
    let breaker = stream.breaker();
    let sender = thread::spawn(move || {
        let file = file_of(&pattern(100_000));
        stream.send_file(&file, &[(0, 100_000)], &AtomicU64::new(0))
    });
    assert_eq!(guest.receive_essential().payload.len(), 1000);

    breaker.break_connection();

    assert!(matches!(sender.join().expect("no panic"), Err(SpliceError::Closed)));
    assert_eq!(guest.receive_essential().op(), Some(Op::Reset));
}

#[test]
fn nothing_to_transfer_is_done_at_once() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let file = tempfile::tempfile().expect("a file");
    let progress = AtomicU64::new(0);

    let sent = stream.send_file(&file, &[], &progress).expect("sent");
    let received = stream.receive_file(b"go", &file, &[(7, 0)], &progress).expect("received");

    assert_eq!((sent, received), (xxh64(&[], 0), xxh64(&[], 0)));
    assert_eq!(guest.receive_bytes(9000, host_port, 2), b"go");
    assert_eq!(progress.load(Ordering::Relaxed), 0);
}

#[test]
fn a_machine_that_is_paused_in_the_middle_of_a_transfer_loses_nothing() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (mut stream, host_port) = connected(&mut guest, &device);
    let bytes = pattern(600_000);
    let receiver = thread::spawn(move || {
        let file = tempfile::tempfile().expect("a file");
        let hash = stream.receive_file(b"go", &file, &[(0, 600_000)], &AtomicU64::new(0));
        (hash, content(file))
    });
    assert_eq!(guest.receive_bytes(9000, host_port, 2), b"go");
    let mut sender = CreditedSender::new(host_port);

    for (nth, chunk) in bytes.chunks(20_000).enumerate() {
        if nth % 7 == 3 {
            let at = device.detach().expect("it was attached");
            thread::sleep(Duration::from_millis(1));
            let attachment = guest.attachment_at(bandsox_vsock::Driver::Resumed, at);
            device.attach(attachment).expect("attached again");
        }
        sender.send(&mut guest, chunk);
    }

    let (hash, file) = receiver.join().expect("no panic");
    assert_eq!(hash.expect("received"), xxh64(&bytes, 0));
    assert!(file == bytes);
}
