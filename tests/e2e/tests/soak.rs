//! The long versions: `cargo xtask soak`.

use std::fs;
use std::time::Duration;

use bandsox_e2e::{Run, Storage, eventually};
use rustix::process::Signal;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
#[ignore = "soak: a gibibyte both ways"]
fn a_gibibyte_survives_the_round_trip() {
    let storage = Storage::new();
    let vm = storage.create_with("gibibyte", &["--disk-size", "4096"]);
    vm.start();
    let local = storage.scratch("big");
    Run::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=1024"])
        .arg(format!("of={}", local.display()))
        .ok();
    let sum = Run::new("md5sum").arg(&local).ok();

    for protocol in ["v1", "v2"] {
        let back = storage.scratch("back");
        vm.upload(&local, "/var/tmp/big").args(["--protocol", protocol]).deadline(HOUR).ok();
        vm.download("/var/tmp/big", &back).args(["--protocol", protocol]).deadline(HOUR).ok();
        let there = Run::new("md5sum").arg(&back).ok();
        assert_eq!(sum.split(' ').next(), there.split(' ').next(), "{protocol}");
        fs::remove_file(back).expect("ours");
    }
}

#[test]
#[ignore = "soak: two thousand commands"]
fn two_thousand_commands_lose_no_byte() {
    let storage = Storage::new();
    let vm = storage.started("commands");

    for n in 0..2000 {
        assert_eq!(vm.exec(&["echo", &n.to_string()]).ok(), n.to_string());
    }
}

#[test]
#[ignore = "soak: fifty starts"]
fn a_vm_starts_and_stops_fifty_times() {
    let storage = Storage::new();
    let vm = storage.create("again");

    for n in 0..50 {
        vm.start();
        let lines = vm.sh(&format!("echo {n} >> /etc/runs; wc -l < /etc/runs"));
        assert_eq!(lines.trim(), (n + 1).to_string());
        vm.stop();
    }
}

#[test]
#[ignore = "soak: a hundred interrupted transfers"]
fn transfers_interrupted_anywhere_never_show_a_half_file() {
    let storage = Storage::new();
    let vm = storage.started("interrupted");
    let [old, new] = [b'o', b'n'].map(|byte| vec![byte; 8 << 20]);
    let (old, new) = (storage.file("old", &old), storage.file("new", &new));

    for n in 0..100_u64 {
        vm.upload(&old, "/var/tmp/file").ok();
        let upload = vm.upload(&new, "/var/tmp/file").spawn();
        std::thread::sleep(Duration::from_millis(n * 7 % 500));
        upload.signal(Signal::KILL);
        drop(upload.wait());
        let kinds = vm.sh("tr -d '\\n' < /var/tmp/file | head -c 1; stat -c ' %s' /var/tmp/file");
        assert!(["o 8388608", "n 8388608"].contains(&kinds.as_str()), "{kinds}");
        eventually("nothing else is left", || (vm.sh("ls -A /var/tmp") == "file").then_some(()));
    }
}

#[test]
#[ignore = "soak: monitors killed at any moment"]
fn monitors_killed_at_any_moment_leave_a_vm_that_starts() {
    let storage = Storage::new();
    let vm = storage.create("killed");

    for n in 0..20_u64 {
        let start = vm.run("start", &[]).spawn();
        std::thread::sleep(Duration::from_millis(n * 191 % 3500));
        for process in bandsox_e2e::naming(std::path::Path::new(&vm.id)) {
            process.kill();
        }
        drop(start.wait());
        eventually("it counts as stopped", || (vm.status() != "running").then_some(()));
    }
    vm.start();
    assert_eq!(vm.sh("echo alive"), "alive");
    assert_eq!(vm.metadata()["vsock_config"]["cid"], 3);
}
