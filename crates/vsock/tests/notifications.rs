//! Kicks and interrupts: what a transfer costs the guest besides copying.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::guest::{Guest, Notifications};
use crate::streams::{CreditedSender, connected, pattern};

const MIB: usize = 1 << 20;

#[test]
fn a_stream_to_the_guest_costs_few_kicks_and_interrupts() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let (kicks, interrupts) = (device.stats().kicks, device.stats().interrupts);
    let writer =
        thread::spawn(move || stream.socket().write_all(&pattern(8 * MIB)).map(|()| stream));

    guest.receive_bytes(9000, host_port, 8 * MIB);

    let stats = device.stats();
    let packets = stats.packets_to_guest;
    let told = (stats.kicks - kicks) + (stats.interrupts - interrupts);
    assert!(packets > 2000, "{packets} packets");
    assert!(told < packets / 4, "{told} kicks and interrupts for {packets} packets");
    writer.join().expect("no panic").expect("written");
}

#[test]
fn a_stream_from_the_guest_costs_few_kicks_and_interrupts() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    let (kicks, interrupts) = (device.stats().kicks, device.stats().interrupts);
    let reader = thread::spawn(move || {
        let mut all = vec![0; 8 * MIB];
        stream.socket().read_exact(&mut all).map(|()| stream)
    });

    let mut sender = CreditedSender::new(host_port);
    for chunk in pattern(8 * MIB).chunks(8 << 10) {
        sender.send(&mut guest, chunk);
    }
    reader.join().expect("no panic").expect("read");

    let stats = device.stats();
    let told = (stats.kicks - kicks) + (stats.interrupts - interrupts);
    assert!(stats.packets_from_guest > 1000);
    assert!(told < stats.packets_from_guest / 4, "{told} for {}", stats.packets_from_guest);
}

#[test]
fn transmit_buffers_come_back_even_when_nothing_else_happens() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (_stream, host_port) = connected(&mut guest, &device);

    guest.send_bytes(9000, host_port, b"one");
    let mut back = 0;
    for _ in 0..50 {
        guest.tx.wait_for_interrupt(Duration::from_millis(100));
        back += guest.tx.take_used().len();
        if back == 2 {
            break;
        }
    }

    assert_eq!(back, 2, "the response and the bytes");
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    let (mut guest, device) = Guest::attached(Notifications::Flags);
    let (stream, _) = connected(&mut guest, &device);
    guest.rx.set_no_interrupt(true);
    guest.tx.set_no_interrupt(true);
    let before = device.stats().interrupts;

    stream.socket().write_all(&[1; 1000]).expect("written");
    thread::sleep(Duration::from_millis(200));

    assert_eq!(device.stats().interrupts, before);
    assert_eq!(guest.receive_within(Duration::ZERO).expect("it is there").payload, [1; 1000]);
}

#[test]
fn an_idle_device_asks_for_no_processor_time() {
    let (mut guest, device) = Guest::attached(Notifications::EventIdx);
    let (stream, host_port) = connected(&mut guest, &device);
    stream.socket().write_all(&[1; 1000]).expect("written");
    guest.receive_bytes(9000, host_port, 1000);
    thread::sleep(Duration::from_millis(300));
    let before = switches();

    thread::sleep(Duration::from_secs(1));

    let woken = switches() - before;
    assert!(woken < 20, "the device's thread was woken {woken} times in a second of nothing");
}

/// How often the device's threads of this process have gone to sleep. Under nextest each test has
/// a process of its own.
fn switches() -> u64 {
    let mut all = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("tasks").flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if read("comm").trim() == "vsock" {
            let count = read("status");
            let line = count.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            all += line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
    }
    all
}
