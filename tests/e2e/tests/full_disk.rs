//! No space left, on either side.

use std::fs;
use std::path::Path;

use bandsox_e2e::{Bed, Run, Storage, on_small_disk};

#[test]
fn a_full_disk_in_the_guest_fails_the_upload_and_keeps_the_old_file() {
    let storage = Storage::new();
    let vm = storage.create_with("small", &["--disk-size", "32"]);
    vm.start();
    let local = storage.file("big", &vec![b'b'; 64 << 20]);
    vm.sh("echo old > /var/tmp/file; sync");

    for protocol in ["v1", "v2"] {
        let refused =
            vm.upload(&local, "/var/tmp/file").args(["--protocol", protocol]).output().refused("");
        assert!(refused.complaint().to_lowercase().contains("no space"), "{refused}");
        assert_eq!(vm.sh("cat /var/tmp/file; ls -A /var/tmp"), "old\nfile");
    }

    let small = storage.file("small", b"fits");
    vm.upload(&small, "/var/tmp/file").ok();
    assert_eq!(vm.sh("cat /var/tmp/file"), "fits");
}

#[test]
fn a_full_disk_on_the_host_fails_the_download_and_keeps_the_old_file() {
    let name = "full_disk::a_full_disk_on_the_host_fails_the_download_and_keeps_the_old_file";
    on_small_disk(name, 4, download_to_a_full_disk);
}

fn download_to_a_full_disk(disk: &Path) {
    let storage = Storage::new();
    let vm = storage.started("big");
    let local = disk.join("file");
    fs::write(&local, "old").expect("it fits");
    vm.sh("head -c 8000000 /dev/zero | tr '\\0' x > /var/tmp/big; mkdir /var/tmp/tree; cp /var/tmp/big /var/tmp/tree");

    for protocol in ["v1", "v2"] {
        let refused =
            vm.download("/var/tmp/big", &local).args(["--protocol", protocol]).output().refused("");
        assert!(refused.complaint().to_lowercase().contains("no space"), "{refused}");
        assert_eq!(fs::read_to_string(&local).expect("there"), "old");
        assert_eq!(fs::read_dir(disk).expect("there").count(), 1, "a half file was left");
    }
    let refused = vm.download("/var/tmp/tree", &disk.join("tree")).output().refused("");
    assert!(refused.complaint().to_lowercase().contains("no space"), "{refused}");
    assert_eq!(vm.sh("echo alive"), "alive");
}

#[test]
fn a_full_storage_refuses_new_vms_and_keeps_those_it_has() {
    let name = "full_disk::a_full_storage_refuses_new_vms_and_keeps_those_it_has";
    on_small_disk(name, 200, create_on_a_full_disk);
}

fn create_on_a_full_disk(disk: &Path) {
    let storage = Storage::new();
    let root = disk.join("storage");
    Run::new("cp").arg("-a").arg(storage.root()).arg(&root).output().ok();
    let bandsox =
        |args: &[&str]| Run::new(storage.program()).arg("--storage").arg(&root).args(args);
    let image = Bed::get().ext4();
    let create = |name: &str| bandsox(&["create", "--name", name]).arg(&image);
    create("first").ok();
    bandsox(&["start", "first"]).ok();

    let ballast = disk.join("ballast");
    drop(Run::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(of(&ballast)).output());
    let refused = create("second").output().refused("");
    assert!(refused.complaint().to_lowercase().contains("no space"), "{refused}");
    let listed = bandsox(&["-o", "json", "list"]).output().ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(bandsox(&["exec", "first", "--", "echo", "alive"]).ok(), "alive");
    // Stopping needs no room that it cannot find.
    bandsox(&["stop", "first"]).ok();
    fs::remove_file(ballast).expect("ours");

    create("second").ok();
    bandsox(&["start", "first"]).ok();
    assert_eq!(bandsox(&["exec", "first", "--", "echo", "back"]).ok(), "back");
    bandsox(&["rm", "-f", "first", "second"]).ok();
}

fn of(path: &Path) -> String {
    format!("of={}", path.display())
}
