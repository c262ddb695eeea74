//! Guests that run, through the program and back.

use serde_json::json;

use crate::bed::Bed;
use crate::real::{self, Machine, Qemu, Vm, loads};

/// A guest on three days: its streams as QEMU wrote them, and its last tick.
fn days(bed: &Bed, qemu: &Qemu, dir: &std::path::Path) -> (u64, String) {
    let mut guest = Vm::counting(qemu, Machine::Pc, dir);
    for day in ["mon.mig", "tue.mig", "wed.mig"] {
        bed.write(day, &guest.save());
        guest.qmp.ask("cont", json!({}));
        let (count, _) = guest.tick().expect("it has counted");
        guest.ticks_past(count + 1);
    }
    bed.write("wed.mig", &guest.save());
    guest.tick().expect("it has counted")
}

fn goes_on_from_a_chain(qemu: &Qemu) {
    let bed = Bed::new();
    let dir = real::directory();
    let tick = days(&bed, qemu, dir.path());
    let chain = ["--parent", "tue.inc", "--parent", "mon"];

    bed.run(&["convert", "mon.mig", "--to", "sequential", "-o", "mon"]).ok();
    let words = ["convert", "tue.mig", "--to", "incremental", "--parent", "mon", "-o", "tue.inc"];
    bed.run(&words).ok();
    let words = ["convert", "wed.mig", "--to", "incremental", "-o", "wed.inc"];
    bed.run(&[&words[..], &chain].concat()).ok();
    let size = |name: &str| bed.read(name).len();
    assert!(size("wed.inc") * 4 < size("wed.mig"), "{} of {}", size("wed.inc"), size("wed.mig"));

    let words = ["convert", "wed.inc", "--to", "sequential", "-o", "wed"];
    bed.run(&[&words[..], &chain].concat()).ok();
    assert_eq!(bed.run(&["diff", "wed.mig", "wed"]).ok().out, "");
    bed.run(&["convert", "wed", "--to", "qemu-precopy", "-o", "wed.qemu"]).ok();
    let _guest = loads(qemu, Machine::Pc, (dir.path(), "wed"), &bed.read("wed.qemu"), &tick);
}

#[test]
fn a_guest_of_7_2_goes_on_from_a_chain() {
    goes_on_from_a_chain(&real::Bed::get().old);
}

#[test]
fn a_guest_of_10_0_goes_on_from_a_chain() {
    goes_on_from_a_chain(&real::Bed::get().new);
}
