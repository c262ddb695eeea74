//! The vsock device with a real guest: Linux' driver, QEMU's vhost-user front end, software translation.

mod guest;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bandsox_qemu::vhost_user::FrontEvent;
use bandsox_vsock::{ConnectError, Handle};
use serde_json::json;

use guest::{GENEROUS, Machine, PORT, rest_of, say};

fn booted() -> Machine {
    Machine::boot(Handle::start().expect("a device"), 3)
}

/// The bytes that the guest calls a pattern.
fn pattern(len: usize) -> Vec<u8> {
    let word = |index: u64| {
        (index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ index).to_le_bytes()
    };
    (0_u64..).flat_map(word).take(len).collect()
}

/// FNV-1a, as the guest computes it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes"))).collect()
}

#[test]
fn bytes_reach_the_guest_and_come_back_unchanged() {
    let machine = booted();

    for len in [0, 1, 65_535, 65_536, 65_537, 5_000_000] {
        let sent = pattern(len);
        let stream = machine.say("check");
        stream.socket().write_all(&sent).expect("written");
        assert_eq!(numbers(&rest_of(stream.socket())), [len as u64, fnv(&sent)], "{len} bytes");

        let stream = machine.say(&format!("pattern {len}"));
        let mut got = vec![0; len];
        stream.socket().read_exact(&mut got).expect("read");
        assert!(got == sent, "{len} bytes");
        assert_eq!(rest_of(stream.socket()), b"");
    }
}

#[test]
fn many_connections_at_once_mix_nothing_up() {
    let machine = booted();

    thread::scope(|scope| {
        for nth in 0..24 {
            let device = &machine.device;
            scope.spawn(move || {
                let sent: Vec<u8> = pattern(300_000 + nth * 1000).split_off(nth * 8);
                let stream = say(device, "echo");
                let (mut to, from) =
                    (stream.socket(), stream.socket().try_clone().expect("cloned"));
                let expected = sent.clone();
                let reader = scope.spawn(move || {
                    let mut got = Vec::new();
                    (&from).read_to_end(&mut got).expect("read");
                    assert!(got == expected, "connection {nth}");
                });
                to.write_all(&sent).expect("written");
                to.shutdown(std::net::Shutdown::Write).expect("shut down");
                reader.join().expect("no panic");
            });
        }
    });
}

#[test]
fn files_go_straight_to_the_guest_and_back() {
    let machine = booted();
    let bytes = pattern(20_000_000);
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&bytes, 0).expect("written");
    let progress = AtomicU64::new(0);

    let mut stream = machine.say("check");
    let len = bytes.len() as u64;
    let sent = stream.send_file(&file, &[(0, len)], &progress).expect("sent");
    assert_eq!(numbers(&rest_of(stream.socket())), [len, fnv(&bytes)]);

    let copy = tempfile::tempfile().expect("a file");
    let mut stream = machine.device.connect(PORT, Instant::now() + GENEROUS).expect("connected");
    let go = format!("pattern {len}\n");
    let received =
        stream.receive_file(go.as_bytes(), &copy, &[(0, len)], &progress).expect("received");

    let mut all = vec![0; bytes.len()];
    copy.read_exact_at(&mut all, 0).expect("read");
    assert!(all == bytes);
    assert_eq!(sent, xxhash_rust::xxh64::xxh64(&bytes, 0));
    assert_eq!(received, sent);
    assert_eq!(progress.into_inner(), 2 * len);
}

#[test]
fn the_guest_reaches_the_host_where_somebody_listens() {
    let machine = booted();
    let (sender, streams) = mpsc::channel();
    let guard = machine.device.listen(9000, Box::new(move |it| sender.send(it).expect("taken")));

    let told = machine.say("dial 9000");
    let stream = streams.recv_timeout(GENEROUS).expect("a connection");
    stream.socket().write_all(b"hello, guest").expect("written");
    assert_eq!(rest_of(stream.socket()), b"hello, guest");
    assert_eq!(rest_of(told.socket()), b"done");
    drop(guard);

    assert_eq!(machine.ask("dial 9001"), "refused");
    let nobody = machine.device.connect(4321, Instant::now() + GENEROUS);
    assert!(matches!(nobody, Err(ConnectError::Refused { port: 4321 })));
}

#[test]
fn a_paused_machine_keeps_its_connections() {
    let mut machine = booted();
    let stream = machine.say("echo");
    let mut socket = stream.socket();
    socket.write_all(b"before").expect("written");
    let mut answer = [0; 6];
    socket.read_exact(&mut answer).expect("read");

    machine.qmp("stop", &json!({}));
    socket.write_all(b"during").expect("the socket holds it");
    thread::sleep(Duration::from_millis(200));
    machine.qmp("cont", &json!({}));
    socket.read_exact(&mut answer).expect("read");

    assert_eq!(&answer, b"during");
    let told: Vec<_> = machine.events.try_iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(told.get(told.len() - 2..), Some(&["Detached".into(), "Attached".into()][..]));
}

#[test]
fn a_device_that_is_plugged_anew_with_another_address_serves_the_same_guest() {
    let mut machine = booted();
    let old = machine.say("echo");
    let (sender, streams) = mpsc::channel();
    let _guard = machine.device.listen(9000, Box::new(move |it| sender.send(it).expect("taken")));

    machine.replug(77);

    assert_eq!(rest_of(old.socket()), b"", "the old connection has ended");
    machine.wait_until_it_answers();
    let told = machine.say("dial 9000");
    drop(streams.recv_timeout(GENEROUS).expect("a connection"));
    assert_eq!(rest_of(told.socket()), b"done");
}

#[test]
fn the_end_of_qemu_is_told_and_the_device_lives_on() {
    let mut machine = booted();
    let stream = machine.say("echo");
    let device = machine.device.clone();
    let mut transfer = machine.say("gulp 1000 100000000");
    let sender = thread::spawn(move || {
        let zeros = File::open("/dev/zero").expect("a file");
        transfer.send_file(&zeros, &[(0, 1 << 30)], &AtomicU64::new(0)).map(drop)
    });

    machine.kill();

    assert_eq!(rest_of(stream.socket()), b"", "its streams have ended");
    sender.join().expect("no panic").expect_err("its transfers have ended");
    let last = machine.events.iter().last().expect("it was told");
    assert!(matches!(last, FrontEvent::HungUp), "{last:?}");
    let machine = Machine::boot(device, 4);
    assert_eq!(machine.ask("dial 9999"), "refused");
}

#[test]
fn a_slow_reader_in_the_guest_holds_up_nobody_else() {
    let machine = booted();
    let slow = machine.say("gulp 100 3000");
    let writer = thread::spawn(move || {
        slow.socket().write_all(&pattern(2_000_000)).expect("written");
        numbers(&rest_of(slow.socket()))
    });

    for _ in 0..20 {
        let stream = machine.say("echo");
        stream.socket().write_all(b"quick").expect("written");
        assert_eq!(rest_of(stream.socket()), b"quick");
    }

    assert!(!writer.is_finished(), "the slow one is still at it");
    assert_eq!(writer.join().expect("no panic"), [2_000_000]);
}
