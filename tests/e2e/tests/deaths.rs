//! kill -9, to each of the processes that a VM is made of.

use std::fs;
use std::path::Path;

use bandsox_e2e::{Process, Storage, Vm, descendants, eventually};
use rustix::process::Signal;

const BIG: usize = 64 << 20;

#[test]
fn a_client_killed_while_it_uploads_leaves_the_old_file() {
    let storage = Storage::new();
    let vm = storage.started("upload");
    let local = storage.file("big", &vec![b'n'; BIG]);
    vm.sh("echo old > /var/tmp/file");

    for protocol in ["v1", "v2"] {
        let upload = vm.upload(&local, "/var/tmp/file").args(["--protocol", protocol]).spawn();
        eventually("the transfer has begun", || (others(&vm) > 0).then_some(()));
        upload.signal(Signal::KILL);
        drop(upload.wait());

        assert_eq!(vm.sh("cat /var/tmp/file"), "old", "{protocol}");
        eventually("the half file is gone", || (others(&vm) == 0).then_some(()));
    }
    vm.upload(&local, "/var/tmp/file").ok();
    assert_eq!(vm.sh("stat -c %s /var/tmp/file"), BIG.to_string());
}

/// How many files lie beside the one that is replaced.
fn others(vm: &Vm<'_>) -> usize {
    vm.sh("ls -A /var/tmp").lines().filter(|name| *name != "file").count()
}

#[test]
fn a_client_killed_while_it_downloads_leaves_the_old_file() {
    let storage = Storage::new();
    let vm = storage.started("download");
    vm.sh(&format!("head -c {BIG} /dev/zero | tr '\\0' n > /var/tmp/big"));
    let dir = storage.scratch("dir");
    fs::create_dir(&dir).expect("ours");
    let local = dir.join("file");
    fs::write(&local, "old").expect("ours");

    for protocol in ["v1", "v2"] {
        let outcome = eventually("a download is killed in the middle", || {
            fs::write(&local, "old").expect("ours");
            let mut download =
                vm.download("/var/tmp/big", &local).args(["--protocol", protocol]).spawn();
            eventually("it has begun or is over", || {
                let begun = holds_bytes_below(download.pid(), &dir);
                (begun || !download.is_running()).then_some(())
            });
            // One that was quicker than we is tried again.
            if download.is_running() {
                download.signal(Signal::KILL);
            }
            Some(download.wait()).filter(|outcome| !outcome.status.success())
        });

        assert_eq!(fs::read(&local).expect("ours"), b"old", "{protocol}: {outcome}");
        assert_eq!(fs::read_dir(&dir).expect("ours").count(), 1, "a half file is left");
    }
    vm.download("/var/tmp/big", &local).ok();
    assert!(fs::read(&local).expect("ours") == vec![b'n'; BIG]);
}

#[test]
fn what_a_killed_download_of_a_directory_left_goes_with_the_next_one() {
    let storage = Storage::new();
    let vm = storage.started("tree");
    vm.sh(&format!(
        "mkdir -p /srv/tree/sub; head -c {BIG} /dev/zero | tr '\\0' n > /srv/tree/sub/big"
    ));
    let dir = storage.scratch("dir");
    fs::create_dir(&dir).expect("ours");
    let sub = dir.join("tree/sub");
    let download = || vm.download("/srv/tree", &dir).spawn();

    eventually("a download is killed in the middle", || {
        let mut download = download();
        eventually("it has begun or is over", || {
            let begun = holds_bytes_below(download.pid(), &sub);
            (begun || !download.is_running()).then_some(())
        });
        if download.is_running() {
            download.signal(Signal::KILL);
        }
        drop(download.wait());
        let left = hidden(&sub);
        fs::remove_file(sub.join("big")).ok();
        (left > 0).then_some(())
    });
    vm.sh("echo small > /srv/tree/sub/big");
    drop(download().wait().ok());

    assert_eq!(hidden(&sub), 0, "a half file is left");
    assert_eq!(fs::read(sub.join("big")).expect("downloaded"), b"small\n");
}

/// How many files of temporary names there are.
fn hidden(dir: &Path) -> usize {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".bandsox-")).count()
}

/// Whether a process has a file open in `dir`, under any name or none, that is neither empty nor the old one.
fn holds_bytes_below(pid: u32, dir: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.map(|entry| entry.path()).any(|path| {
        let is_below = fs::read_link(&path).is_ok_and(|target| target.starts_with(dir));
        is_below && fs::metadata(&path).is_ok_and(|meta| meta.len() > 3)
    })
}

#[test]
fn a_killed_monitor_takes_its_engine_along_and_gives_the_lease_back() {
    let storage = Storage::new();
    let vm = storage.started("orphan");
    vm.sh("echo kept > /etc/kept; sync");
    let (monitor, family) = (vm.monitor(), descendants(vm.monitor().pid));
    assert!(!family.is_empty());

    monitor.kill();

    eventually("its children are gone", || {
        family.iter().all(|process| Process::read(process.pid).is_none()).then_some(())
    });
    assert_eq!(vm.end(), "crashed: monitor_died");
    vm.has_no_lease();
    vm.run("exec", &["--", "true"]).output().code(125);
    let other = storage.started("other");
    assert_eq!(other.metadata()["vsock_config"]["cid"], 3, "the dead one's lease is taken back");
    vm.start();
    assert_eq!(vm.sh("cat /etc/kept"), "kept");
}

#[test]
fn a_killed_engine_is_reported_by_its_monitor() {
    let storage = Storage::new();
    let vm = storage.started("shot");
    let hanging = vm.exec(&["sleep", "100000"]).spawn();
    eventually("it runs", || vm.sh("ps -o args").contains("sleep 100000").then_some(()));

    vm.engine().kill();

    hanging.wait().code(125);
    vm.becomes("crashed");
    assert_eq!(vm.end(), "crashed: engine_died");
    let reason = vm.inspect()["status_reason"].clone();
    assert_eq!((&reason["exit"], &reason["signal"]), (&"signal".into(), &9.into()), "{reason}");
    vm.has_no_lease();
    vm.start();
    assert_eq!(vm.sh("echo again"), "again");
}

#[test]
fn a_monitor_killed_while_files_move_leaves_both_sides_as_they_were() {
    let storage = Storage::new();
    let vm = storage.started("mid-transfer");
    vm.sh(&format!(
        "echo old > /var/tmp/up; head -c {BIG} /dev/zero | tr '\\0' n > /var/tmp/down; sync"
    ));
    let up = storage.file("up", &vec![b'n'; BIG]);
    let down = storage.file("down", b"old");

    let upload = vm.upload(&up, "/var/tmp/up").spawn();
    let download = vm.download("/var/tmp/down", &down).spawn();
    eventually("something arrives", || (vm.sh("ls -A /var/tmp").lines().count() > 2).then_some(()));
    vm.monitor().kill();
    let (uploaded, downloaded) = (upload.wait(), download.wait());

    assert!(!uploaded.status.success(), "{uploaded}");
    if !downloaded.status.success() {
        assert_eq!(fs::read(&down).expect("ours"), b"old");
    }
    vm.start();
    assert_eq!(vm.sh("cat /var/tmp/up"), "old");
}
