//! What is written down, and how much of it.

use std::fs;

use bandsox_e2e::{Storage, eventually};
use serde_json::Value;

/// Far above what a log needs, far below what a guest can print.
const BOUND: u64 = 16 << 20;

#[test]
fn the_console_is_logged_and_followed() {
    let storage = Storage::new();
    let vm = storage.started("console");
    let following = vm.run("logs", &["--follow"]).spawn();
    vm.sh("echo a-word-on-the-console > /dev/console");
    eventually("the word is logged", || vm.logs().contains("a-word-on-the-console").then_some(()));
    assert!(vm.run("logs", &["--tail", "3"]).output().ok().text().lines().count() <= 3);
    vm.stop();

    assert!(following.wait().ok().text().contains("a-word-on-the-console"));
    assert!(vm.logs().contains("a-word-on-the-console"), "the log outlives the run");
}

#[test]
fn each_boot_of_a_healthy_guest_leaves_a_line_in_its_log() {
    let storage = Storage::new();
    let vm = storage.started("healthy");
    let boots = |vm: &bandsox_e2e::Vm<'_>| vm.logs().matches("listens on vsock port 9000").count();
    eventually("the boot is logged", || (boots(&vm) == 1).then_some(()));

    vm.run("restart", &[]).ok();

    eventually("so is the next", || (boots(&vm) == 2).then_some(()));
}

#[test]
fn a_guest_that_prints_without_end_fills_no_disk_and_stalls_nobody() {
    let storage = Storage::new();
    let vm = storage.started("flood");
    let flood = "while :; do cat /bin/busybox; done > /dev/console 2> /dev/null &";
    vm.sh(flood);
    let local = storage.file("some", &vec![b'x'; 1 << 20]);

    for _ in 0..5 {
        vm.upload(&local, "/tmp/some").ok();
        assert_eq!(vm.sh("echo alive"), "alive");
        let bytes = logged_bytes(&storage, &vm.id);
        assert!(bytes < BOUND, "{bytes} bytes of logs");
    }
    // Bytes of a console are anything; what is printed of them harms no terminal's reader.
    vm.run("logs", &["--tail", "5"]).output().ok();
}

#[test]
fn messages_are_one_line_each_and_json_on_request() {
    let storage = Storage::new();
    let vm = storage.create("journal");

    let said = vm.run("start", &["--verbose", "--log-format", "json"]).output().ok().complaint();

    assert!(!said.is_empty());
    for line in said.lines() {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event.is_object(), "{line}");
    }
    assert!(said.contains("Vsock enabled: CID=3, Port=9000"), "{said}");
    let refused =
        storage.bandsox(&["start", "nobody", "--log-format", "json"]).output().refused("nobody");
    for line in refused.complaint().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|event| event.is_object()), "{line}");
    }
}

#[test]
fn secrets_and_control_characters_of_a_guest_stay_out_of_the_monitors_log() {
    let storage = Storage::new();
    let vm = storage.started("names");
    let odd = "/tmp/a\nINFO forged line";

    let local = storage.file("x", b"x");
    vm.run("upload", &[]).arg(&local).arg(odd).ok();

    let log = vm.monitor_log();
    assert!(
        !log.lines().any(|line| line.starts_with("INFO forged")),
        "a file name forged a line: {log}"
    );
}

fn logged_bytes(storage: &Storage, id: &str) -> u64 {
    let logs = fs::read_dir(storage.root().join("logs").join(id)).expect("made").flatten();
    logs.map(|entry| entry.metadata().map_or(0, |meta| meta.len())).sum()
}
