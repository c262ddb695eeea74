//! Contracts: of streams, and of a QEMU.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::Bed;

#[test]
fn check_says_every_reason_and_refuses() {
    let bed = Bed::new();
    let text = bed.run(&["json", "vm"]).ok().out;
    let edited = text.replacen("\"attribute\":\"vcpus\",\"policy\":\"exact\",\"value\":2", "", 0);
    let edited =
        edited.replace("\"value\":2", "\"value\":3").replace("[\"sse2\",\"avx\"]", "[\"sse2\"]");
    bed.run_with(&["from-json", "-", "-o", "other"], edited.as_bytes()).ok();

    assert_eq!(bed.run(&["check", "vm", "--against", "vm"]).ok().out, "accepted\n");
    let refused = bed.run(&["check", "vm", "--against", "other"]).fails(1).out;
    assert_eq!(
        refused,
        "value-differs machine#vcpus: source has 2, destination has 3 (--vcpus)\n\
         not-a-subset cpu#features: source has [\"sse2\", \"avx\"], destination has [\"sse2\"]; \
         the destination lacks [\"avx\"]\n"
    );
    let programs =
        bed.run_with(&["check", "-", "--against", "other", "-o", "json"], &bed.read("vm"));
    assert_eq!(programs.fails(1).json()["refusals"][0]["code"], "value-differs");
    bed.run(&["check", "-", "--against", "-"]).fails(1);
}

/// A QEMU that ends with this value.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn qemu(bed: &Bed, name: &str, more: &[&str]) -> Qemu {
    let socket = bed.path(name);
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-S", "-accel", "tcg", "-display", "none"]);
    command.args(["-machine", "pc-i440fx-7.2", "-m", "64", "-device", "virtio-rng-pci,addr=4"]);
    command.args(more).args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())]);
    let child = command.stdin(Stdio::null()).spawn().expect("QEMU starts");
    let child = Qemu(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "QEMU listens");
        thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn a_waiting_qemu_is_compared_with_one_that_runs() {
    let bed = Bed::new();
    let _source = qemu(&bed, "source.sock", &["-smp", "1"]);
    let _destination = qemu(&bed, "destination.sock", &["-smp", "2", "-incoming", "defer"]);
    bed.run(&["manifest", "--qmp", "source.sock", "-o", "source"]).ok();
    let destination = bed.run(&["manifest", "--qmp", "destination.sock"]).ok();

    bed.run(&["verify", "source"]).ok();
    assert_eq!(bed.run(&["get", "source", "machine#type"]).ok().out, "pc-i440fx-7.2\n");
    assert_eq!(bed.run(&["get", "source", "pci.0/04.0#device"]).ok().out, "virtio-rng-pci\n");
    assert_eq!(bed.run(&["check", "source", "--against", "source"]).ok().out, "accepted\n");
    let words = ["check", "source", "--against", "-"];
    let refused = bed.run_with(&words, &destination.bytes).fails(1).out;
    let (first, rest) = refused.split_once('\n').expect("a line");
    assert_eq!(first, "value-differs machine#vcpus: source has 1, destination has 2 (-smp)");
    assert!(rest.starts_with("and ") && rest.ends_with(" that follow from it\n"), "{rest}");
    bed.run(&["manifest", "--qmp", "nothing.sock"]).fails(2);
}
