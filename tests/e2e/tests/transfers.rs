//! Single files, both ways: every size that has been wrong somewhere, odd names, refusals.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bandsox_e2e::{Run, Storage, Vm, eventually};

/// Around the chunk of protocol v1, which is 65,536 bytes.
const SIZES: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 3_000_001];

#[test]
fn every_size_survives_the_round_trip_over_both_protocols() {
    let storage = Storage::new();
    let vm = storage.started("sizes");

    for protocol in ["v1", "v2"] {
        for size in SIZES {
            let local = storage.file("sent", &noise(size));
            there_and_back(&storage, &vm, &local, &["--protocol", protocol]);
        }
    }
}

#[test]
fn every_size_survives_the_round_trip_over_the_serial_link() {
    let storage = Storage::new();
    let vm = storage.started("serial");

    for protocol in ["v1", "v2"] {
        for size in SIZES.into_iter().filter(|size| *size < 1_000_000) {
            let local = storage.file("sent", &noise(size));
            there_and_back(
                &storage,
                &vm,
                &local,
                &["--protocol", protocol, "--transport", "serial"],
            );
        }
    }
    // Both links at once, neither in the other's way.
    let local = storage.file("sent", &noise(200_000));
    let slow = vm.upload(&local, "/tmp/slow").args(["--transport", "serial"]).spawn();
    there_and_back(&storage, &vm, &local, &["--transport", "vsock"]);
    slow.wait().ok();
    assert_eq!(vm.sh("cmp /tmp/slow /tmp/file && echo same"), "same");
}

#[test]
fn modes_times_and_owners_are_kept() {
    let storage = Storage::new();
    let vm = storage.started("modes");
    let local = storage.file("tool", b"#!/bin/sh\necho ran\n");
    fs::set_permissions(&local, fs::Permissions::from_mode(0o751)).expect("ours");
    let when = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 987_654_321);
    fs::File::options()
        .write(true)
        .open(&local)
        .and_then(|file| file.set_modified(when))
        .expect("ours");

    vm.upload(&local, "/usr/bin/tool").ok();
    assert_eq!(vm.sh("stat -c '%a %Y' /usr/bin/tool; tool"), "751 1234567890\nran");

    let back = storage.scratch("back");
    vm.download("/usr/bin/tool", &back).ok();
    let meta = fs::metadata(&back).expect("downloaded");
    assert_eq!(meta.mode() & 0o7777, 0o751);
    assert_eq!(meta.modified().expect("supported"), when, "to the nanosecond");
}

#[test]
fn names_that_no_shell_likes_work_both_ways() {
    let storage = Storage::new();
    let vm = storage.started("names");
    let dir = storage.scratch("names");
    fs::create_dir(&dir).expect("ours");
    let long = "n".repeat(255);
    let names: [&[u8]; 7] = [
        b"with space",
        b"new\nline",
        b"\xff\xfe not utf-8",
        b"-rf",
        b"quote'\"$(x)",
        b"a:b",
        long.as_bytes(),
    ];

    for name in names {
        let local = dir.join(OsStr::from_bytes(name));
        fs::write(&local, name).expect("ours");
        let mut remote = b"/tmp/".to_vec();
        remote.extend(name);
        let remote = OsStr::from_bytes(&remote);

        vm.run("upload", &[]).arg(&local).arg(remote).ok();
        assert!(vm.exec(&["cat"]).arg(remote).output().ok().stdout == name);
        let back = storage.scratch("back");
        vm.run("download", &[]).arg(remote).arg(&back).ok();
        assert!(fs::read(&back).expect("downloaded") == name, "{name:?}");
    }
}

#[test]
fn a_target_that_is_a_directory_takes_the_file_inside() {
    let storage = Storage::new();
    let vm = storage.started("inside");
    let local = storage.file("note", b"note");
    vm.sh("mkdir -p /srv/box");

    vm.upload(&local, "/srv/box").ok();
    vm.upload(&local, "/srv/").ok();
    assert_eq!(vm.sh("cat /srv/box/note /srv/note"), "notenote");

    let dir = storage.scratch("dir");
    fs::create_dir(&dir).expect("ours");
    vm.download("/srv/note", &dir).ok();
    assert_eq!(fs::read(dir.join("note")).expect("downloaded"), b"note");

    let target = format!("{}:/srv/copied", vm.id);
    storage.bandsox(&["cp"]).arg(&local).arg(&target).ok();
    storage.bandsox(&["cp", &target]).arg(storage.scratch("copied")).ok();
    assert_eq!(fs::read(storage.scratch("copied")).expect("downloaded"), b"note");
}

#[test]
fn a_dash_is_standard_input_and_output() {
    let storage = Storage::new();
    let vm = storage.started("dash");
    let bytes = noise(200_000);

    vm.upload(Path::new("-"), "/tmp/piped").stdin(bytes.clone()).ok();

    let outcome = vm.download("/tmp/piped", Path::new("-")).output().ok();
    assert!(outcome.stdout == bytes);
}

#[test]
fn holes_stay_holes() {
    const SIZE: u64 = 256 << 20;
    let storage = Storage::new();
    let vm = storage.started("holes");
    let local = storage.scratch("sparse");
    let file = fs::File::create(&local).expect("ours");
    file.write_all_at(b"start", 0)
        .and_then(|()| file.write_all_at(b"middle", SIZE / 2))
        .expect("ours");
    file.set_len(SIZE).expect("ours");

    vm.upload(&local, "/var/tmp/sparse").ok();
    let kilobytes = vm.sh("du -k /var/tmp/sparse | cut -f 1").parse::<u64>().expect("a number");
    assert!(kilobytes < 1024, "{kilobytes} KiB in the guest");
    assert_eq!(vm.sh("stat -c %s /var/tmp/sparse"), SIZE.to_string());

    let back = storage.scratch("back");
    vm.download("/var/tmp/sparse", &back).ok();
    let meta = fs::metadata(&back).expect("downloaded");
    assert_eq!(meta.len(), SIZE);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks on the host", meta.blocks());
    let mut middle = [0; 6];
    fs::File::open(back).and_then(|file| file.read_exact_at(&mut middle, SIZE / 2)).expect("ours");
    assert_eq!(&middle, b"middle");
}

#[test]
fn what_cannot_be_copied_is_refused_at_once_and_leaves_no_trace() {
    let storage = Storage::new();
    let vm = storage.started("refusals");
    let local = storage.file("here", b"new");
    let untouched = storage.file("untouched", b"old");

    for protocol in ["v1", "v2"] {
        let with = ["--protocol", protocol];
        vm.download("/no/such/file", &untouched).args(with).output().refused("/no/such/file");
        vm.upload(&local, "/no/such/dir/file").args(with).output().refused("/no/such/dir");
        vm.upload(&local, "/proc/version").args(with).output().refused("/proc");
    }
    vm.upload(&storage.scratch("absent"), "/tmp/x").output().refused("absent");
    vm.download("/etc/passwd", &storage.scratch("no/dir/file")).output().refused("no/dir");
    vm.sh("mkfifo /tmp/pipe");
    vm.run("download", &["/tmp/pipe"]).arg(&untouched).output().refused("/tmp/pipe");
    storage.bandsox(&["upload", "nobody"]).arg(&local).arg("/tmp/x").output().refused("nobody");
    vm.upload(&local, "/tmp/x")
        .args(["--protocol", "v1"])
        .arg("--frobnicate")
        .output()
        .code(2)
        .refused("");

    assert_eq!(fs::read(untouched).expect("ours"), b"old");
    assert_eq!(vm.sh("ls -A /tmp"), "pipe");
}

#[test]
fn a_host_directory_that_vanishes_meanwhile_is_an_error_and_no_more() {
    let storage = Storage::new();
    let vm = storage.started("vanish");
    vm.sh("head -c 60000000 /dev/zero | tr '\\0' x > /var/tmp/big");
    let dir = storage.scratch("gone");
    fs::create_dir(&dir).expect("ours");

    let download = vm.download("/var/tmp/big", &dir.join("big")).spawn();
    eventually("the transfer has begun", || fs::read_dir(&dir).expect("ours").next().map(drop));
    fs::rename(&dir, storage.scratch("elsewhere")).expect("ours");
    fs::remove_dir_all(storage.scratch("elsewhere")).expect("ours");
    drop(download.wait());

    assert!(!dir.exists());
    assert_eq!(vm.sh("echo alive"), "alive");
    vm.download("/etc/passwd", &storage.scratch("passwd")).ok();
}

#[test]
fn a_vm_is_never_paused_by_a_transfer() {
    let storage = Storage::new();
    let vm = storage.started("ticks");
    let local = storage.file("big", &noise(48 << 20));
    let ticking = "while [ ! -e /tmp/stop ]; do echo tick; sleep 0.05; done";
    let ticker = vm.exec(&["sh", "-c", ticking]).spawn();
    let ticks = || vm.sh("cat /proc/uptime").split('.').next().and_then(|s| s.parse::<u64>().ok());
    let before = ticks();

    let upload = vm.upload(&local, "/var/tmp/big").spawn();
    let mut seen = Vec::new();
    let mut upload = Some(upload);
    while upload.as_mut().is_some_and(bandsox_e2e::Started::is_running) {
        seen.push(vm.status());
        // A command starts and ends in the middle of the transfer.
        assert_eq!(vm.sh("echo now"), "now");
    }
    drop(upload.take().map(|upload| upload.wait().ok()));
    vm.download("/var/tmp/big", &storage.scratch("back")).ok();

    vm.sh("touch /tmp/stop");
    let ticked = ticker.wait().ok().text();
    assert!(seen.iter().all(|status| status == "running"), "{seen:?}");
    assert!(ticked.lines().count() > 5, "the command stood still");
    assert!(ticks() >= before);
    assert!(!vm.monitor_log().contains("paused"), "{}", vm.monitor_log());
}

#[test]
fn a_quiet_transfer_prints_nothing_and_a_terminal_gets_progress() {
    let storage = Storage::new();
    let vm = storage.started("progress");
    let local = storage.file("some", &noise(30 << 20));

    let quiet = vm.upload(&local, "/var/tmp/a").arg("-q").output().ok();
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet}");

    // Progress shows after a second; no serial line moves this much in one.
    let local = local.to_string_lossy();
    let upload = ["upload", "--transport", "serial", &vm.id, &local, "/var/tmp/b"];
    let (status, screen) = storage.in_terminal((24, 80), &upload).end();
    assert!(status.success() && screen.contains("/s"), "no rate in {screen:?}");
}

/// Uploads, compares in the guest by its own tools, downloads, compares here.
fn there_and_back(storage: &Storage, vm: &Vm<'_>, local: &Path, options: &[&str]) {
    let back = storage.scratch("back");
    drop(fs::remove_file(&back));

    vm.upload(local, "/tmp/file").args(options).ok();
    vm.download("/tmp/file", &back).args(options).ok();

    let sum = Run::new("md5sum").arg(local).ok();
    let there = vm.sh("md5sum /tmp/file");
    assert_eq!(sum.split(' ').next(), there.split(' ').next(), "{options:?}");
    assert!(fs::read(local).expect("ours") == fs::read(&back).expect("downloaded"), "{options:?}");
}

/// Bytes without a pattern that a shifted or swapped chunk could hide in.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
