//! After each migration the guest counts on, and a checksum of its memory is right.

use std::path::Path;

use vmstream_bridge::{Outcome, Send};

use crate::bed::{self, Bed, Machine, Qemu, Vm};
use crate::sides::{Receiver, Sent, plain, sent, told};

/// Moves a guest that counts; it counts on at the destination.
fn moves(from: &Qemu, to: &Qemu, machine: Machine, change: impl FnOnce(Send) -> Send) -> Sent {
    moves_to(Receiver::start, from, to, machine, change)
}

fn moves_to(
    start: impl FnOnce(&Path) -> Receiver,
    from: &Qemu,
    to: &Qemu,
    machine: Machine,
    change: impl FnOnce(Send) -> Send,
) -> Sent {
    let dir = bed::directory();
    let mut source = Vm::counting(from, machine, dir.path());
    let mut destination = Vm::waiting(to, machine, dir.path(), "destination");
    let receiver = start(&destination.monitor());
    let options = change(plain(&source.monitor(), &receiver.address));
    let sent = sent(&options);
    let (received, verdict) = receiver.end();
    let refusals = sent.verdict.iter().flat_map(|verdict| &verdict.refusals);
    let refusals: Vec<_> = refusals.map(ToString::to_string).collect();
    assert_eq!(refusals, Vec::<String>::new());
    let said = (sent.ended.as_ref().map_err(told), received.as_ref().map_err(told));
    assert!(matches!(&said, (Ok(Outcome::Moved(_)), Ok(Outcome::Moved(_)))), "{said:?}");
    assert_eq!(sent.verdict, verdict, "both sides say the same");

    let tick = source.tick().expect("it has counted");
    source.wait_status("postmigrate");
    destination.wait_status("running");
    let (count, sum) = destination.ticks_past(tick.0);
    assert!(count < tick.0 + 1000, "the counter goes on from {}, not {count}", tick.0);
    assert_eq!(sum, tick.1, "the guest's memory is right");
    sent
}

#[test]
fn a_guest_of_7_2_moves() {
    let qemu = &Bed::get().old;
    moves(qemu, qemu, Machine::Pc, |options| options);
}

#[test]
fn a_guest_of_10_0_moves() {
    let qemu = &Bed::get().new;
    moves(qemu, qemu, Machine::Q35, |options| options);
}

#[test]
fn a_guest_moves_to_who_loads_nothing_but_records() {
    let Bed { old, new, .. } = Bed::get();
    moves_to(Receiver::careful, old, old, Machine::Q35, |options| options);
    moves_to(Receiver::careful, old, new, Machine::Pc, |options| options);
}

#[test]
fn a_guest_moves_to_another_version_and_back() {
    let Bed { old, new, .. } = Bed::get();
    moves(old, new, Machine::Pc, |options| options);
    moves(new, old, Machine::Pc, |options| options);
}

#[test]
fn a_guest_goes_ahead_of_its_pages() {
    for qemu in [&Bed::get().old, &Bed::get().new] {
        let sent = moves(qemu, qemu, Machine::Pc, |options| Send {
            postcopy: Some(0),
            max_bandwidth: Some(20_000_000),
            ..options
        });
        assert!(sent.progress.iter().any(|progress| progress.is_postcopy()));
    }
}
