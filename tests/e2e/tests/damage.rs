//! Files of the storage that somebody broke: said clearly, and nothing else suffers.

use std::fs;

use bandsox_e2e::Storage;

#[test]
fn damaged_metadata_is_listed_as_damaged_and_harms_no_other_vm() {
    let storage = Storage::new();
    let good = storage.started("good");
    let bad = storage.create("bad");
    let disks = || fs::read_dir(storage.root().join("disks")).expect("made").count();
    let before = disks();

    for contents in [&b""[..], b"{", b"[1,2]", b"\xff\xff", b"{\"id\": 7}", &[b'['; 100_000]] {
        fs::write(bad.metadata_path(), contents).expect("written");

        assert_eq!(bad.status(), "damaged");
        assert_eq!(good.status(), "running");
        let refused = bad.run("start", &[]).output().refused("damaged");
        assert!(refused.complaint().contains(&bad.id), "{refused}");
        bad.run("inspect", &[]).output().refused("damaged");
        storage.bandsox(&["cleanup"]).ok();
        assert_eq!(disks(), before, "cleanup removed what damaged metadata may refer to");
    }

    let other = storage.started("other");
    assert_eq!(other.metadata()["vsock_config"]["cid"], 4);
    assert_eq!(good.sh("echo alive"), "alive");
    bad.run("rm", &["--force"]).ok();
    assert!(storage.listed(&bad.id).is_none());
}

#[test]
fn cleanup_reclaims_what_the_dead_held_and_nothing_of_the_living() {
    let storage = Storage::new();
    let alive = storage.started("alive");
    let dead = storage.started("dead");
    let (monitor, stray) = (dead.monitor(), storage.root().join("disks/0123456789ab.ext4"));
    monitor.kill();
    dead.becomes("crashed");
    fs::write(&stray, "nobody's").expect("written");

    let planned = storage.bandsox(&["cleanup", "--dry-run"]).output().ok();
    assert!(stray.exists(), "a dry run removed something: {planned}");
    storage.bandsox(&["cleanup"]).ok();

    assert!(!stray.exists(), "the stray disk is still there");
    assert!(!dead.sockets().join("control.sock").exists(), "a dead VM's socket is still there");
    assert!(dead.metadata()["vsock_config"]["cid"].is_null());
    assert_eq!(alive.sh("echo alive"), "alive");
    dead.start();
    assert_eq!(dead.sh("echo back"), "back");
}

#[test]
fn a_kernel_that_is_damaged_is_refused_with_the_remedy() {
    let storage = Storage::new();
    let vm = storage.create("no-kernel");
    fs::write(storage.root().join("kernel/manifest.json"), "{").expect("written");

    let refused = vm.run("start", &[]).output().refused("bandsox init");

    assert!(refused.complaint().contains("manifest"), "{refused}");
    assert_eq!(vm.end(), "stopped: start_failed");
    vm.has_no_lease();
}
