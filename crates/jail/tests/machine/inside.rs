//! What the host can see of a QEMU in the jail, and what its guest sees.

use std::fs;
use std::os::unix::fs::MetadataExt;

use bandsox_engine::Engine;

use crate::guest::{Guest, jail};

/// One field of `/proc/<pid>/status`.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned()).unwrap_or_else(|| panic!("no {field} in {text}"))
}

#[test]
fn a_running_qemu_has_nothing_left() {
    let guest = Guest::boot("bare-idle", &jail());
    guest.console.wait_for("READY", 0);
    let pid = guest.engine.info().pid;

    assert_eq!(status(pid, "Seccomp"), "2");
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    let root = format!("/proc/{pid}/root");
    assert_eq!(fs::read_dir(&root).expect("root may look").count(), 0, "its root is not empty");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs");
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    for space in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{space}")).expect("it runs");
        assert_ne!(of(&pid.to_string()), of("self"), "{space}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    assert_eq!(core.and_then(|line| line.split_whitespace().nth(4)), Some("0"), "{limits}");
}

#[test]
fn each_machine_of_root_has_a_user_of_its_own() {
    assert!(rustix::process::getuid().is_root(), "needs root, since only root has users to give");
    let guest = Guest::boot("bare-idle", &jail());

    let owner = fs::metadata(format!("/proc/{}", guest.engine.info().pid)).expect("it runs").uid();

    assert_eq!(owner >> 16, 0x4253, "{owner}");
}

#[test]
fn a_machine_is_in_a_cgroup_that_goes_with_it() {
    let mut guest = Guest::boot("bare-idle", &jail());
    let of_process = fs::read_to_string(format!("/proc/{}/cgroup", guest.engine.info().pid));
    let of_process = of_process.expect("it runs");
    let made = guest.sealed.missing.iter().all(|line| !line.contains("cgroup"));
    assert_eq!(of_process.contains("/bandsox/test-"), made, "{of_process} {:?}", guest.sealed);

    guest.engine.kill();
    guest.until_gone();

    let name = of_process.split("/bandsox/").nth(1).and_then(|rest| rest.lines().next());
    let left = name.map(|name| format!("/sys/fs/cgroup/pids/bandsox/{name}"));
    assert!(!left.is_some_and(|folder| fs::exists(folder).unwrap_or(true)));
}

#[test]
fn the_guest_finds_its_disks_and_its_port() {
    let guest = Guest::boot("disks", &jail());

    let text = guest.console.wait_for("DONE", 0);

    assert!(!text.contains("INSMOD FAILED"), "{text}");
    assert!(text.contains("BASE BBBB RO 1"), "{text}");
    assert!(text.contains("SERIALS base overlay"), "{text}");
    assert!(text.contains("PORT org.bandsox.agent"), "{text}");
    let overlay = fs::read(guest.folder.path().join("overlay")).expect("it is there");
    assert!(overlay.starts_with(b"over\n"));
    let base = fs::read(guest.folder.path().join("base")).expect("it is there");
    assert!(base.iter().all(|&byte| byte == b'B'), "the base was written to");
}

#[test]
fn the_guests_clock_ticks_at_the_walls_rate() {
    let guest = Guest::boot("bare-idle", &jail());
    let seconds = |text: &str, tick: u32| -> i64 {
        let line = text.lines().find(|line| line.starts_with(&format!("TICK {tick} ")));
        let stamp = line.and_then(|line| line.split_whitespace().nth(2)).expect("it ticked");
        stamp.parse().expect("date prints a number")
    };
    guest.console.wait_for("TICK 1 ", 0);
    let begun = std::time::Instant::now();
    let text = guest.console.wait_for("TICK 9 ", 0);
    let wall = i64::try_from(begun.elapsed().as_secs()).expect("seconds");

    let guests = seconds(&text, 9) - seconds(&text, 1);

    assert!((guests - wall).abs() <= 2, "{guests} s in the guest, {wall} s outside");
}
