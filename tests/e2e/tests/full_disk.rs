//! No space left, on either side.

use std::fs;
use std::path::{Path, PathBuf};

use bandsox_e2e::{Bed, Run, Storage};

/// A file system of so many MiB, unmounted when dropped. Mounting needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size_mib: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        fs::create_dir_all(&at).expect("ours");
        let options = format!("size={size_mib}m");
        drop(
            Run::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output().ok(),
        );
        Some(Self(at))
    }

    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        drop(Run::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(of(&ballast)).output());
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Run::new("umount").arg("--lazy").arg(&self.0).output());
    }
}

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
    let storage = Storage::new();
    let vm = storage.started("big");
    let Some(disk) = SmallDisk::mount(storage.scratch("disk"), 4) else { return };
    let local = disk.0.join("file");
    fs::write(&local, "old").expect("it fits");
    vm.sh("head -c 8000000 /dev/zero | tr '\\0' x > /var/tmp/big; mkdir /var/tmp/tree; cp /var/tmp/big /var/tmp/tree");

    for protocol in ["v1", "v2"] {
        let refused =
            vm.download("/var/tmp/big", &local).args(["--protocol", protocol]).output().refused("");
        assert!(refused.complaint().to_lowercase().contains("no space"), "{refused}");
        assert_eq!(fs::read_to_string(&local).expect("there"), "old");
        assert_eq!(fs::read_dir(&disk.0).expect("there").count(), 1, "a half file was left");
    }
    let refused = vm.download("/var/tmp/tree", &disk.0.join("tree")).output().refused("");
    assert!(refused.complaint().to_lowercase().contains("no space"), "{refused}");
    assert_eq!(vm.sh("echo alive"), "alive");
}

#[test]
fn a_full_storage_refuses_new_vms_and_keeps_those_it_has() {
    let storage = Storage::new();
    let Some(disk) = SmallDisk::mount(storage.scratch("disk"), 200) else { return };
    let root = disk.0.join("storage");
    Run::new("cp").arg("-a").arg(storage.root()).arg(&root).output().ok();
    let bandsox =
        |args: &[&str]| Run::new(storage.program()).arg("--storage").arg(&root).args(args);
    let image = Bed::get().ext4();
    let create = |name: &str| bandsox(&["create", "--name", name]).arg(&image);
    create("first").ok();
    bandsox(&["start", "first"]).ok();

    let ballast = disk.fill();
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
