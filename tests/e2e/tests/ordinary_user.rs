//! Everything without privileges: TCG needs none.

use std::fs;

use bandsox_e2e::{Bed, Storage};

#[test]
fn an_ordinary_user_with_their_own_storage_needs_nobody() {
    let storage = Storage::of_ordinary_user();
    let bed = Bed::get();
    // Their own copies: the build directory need not be open to them.
    let [deb, image, local] =
        ["kernel.deb", "rootfs.ext4", "hello"].map(|name| storage.scratch(name));
    fs::copy(&bed.kernel_deb, &deb).expect("copied");
    fs::copy(bed.ext4(), &image).expect("copied");
    fs::write(&local, "hello").expect("ours");
    for file in [&deb, &image, &local] {
        storage.give_to_user(file);
    }

    storage.bandsox(&["init", "--kernel-deb"]).arg(&deb).ok();
    let id = storage.bandsox(&["create", "--name", "mine"]).arg(&image).ok();
    let vm = bandsox_e2e::Vm::new(&storage, id);
    vm.start();

    vm.upload(&local, "/tmp/hello").ok();
    assert_eq!(vm.sh("id -u; cat /tmp/hello"), "0\nhello");
    vm.download("/tmp/hello", &storage.scratch("back")).ok();
    assert_eq!(fs::read_to_string(storage.scratch("back")).expect("downloaded"), "hello");
    let engine = vm.engine();
    assert_eq!(engine.status("NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(engine.status("CapEff").as_deref(), Some("0000000000000000"));
    storage.bandsox(&["doctor"]).ok();
    vm.stop();
    vm.run("rm", &[]).ok();
    assert_eq!(storage.bandsox(&["list"]).ok(), "No VMs found.");
}

#[test]
fn a_storage_that_may_not_be_written_is_refused_with_the_remedy() {
    let storage = Storage::of_ordinary_user();

    let refused =
        storage.user_program().env("BANDSOX_STORAGE", "/proc/nowhere").arg("list").output();

    assert!(refused.refused("/proc/nowhere").complaint().contains("--storage"));
}
