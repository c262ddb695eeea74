//! What takes how much room, and what is given back.

use bandsox_e2e::{Bed, Storage, eventually};
use serde_json::Value;

fn kind(storage: &Storage, kind: &str) -> Value {
    let rows = storage.bandsox(&["df", "-o", "json"]).output().ok().json();
    let rows = rows.as_array().expect("a list").clone();
    rows.into_iter().find(|row| row["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn bytes(storage: &Storage, of: &str) -> u64 {
    kind(storage, of)["bytes"].as_u64().expect("a number")
}

#[test]
fn what_the_guest_deletes_is_given_back_to_the_host() {
    const MIB: u64 = 64;
    let storage = Storage::new();
    let vm = storage.started("space");
    let before = bytes(&storage, "disks");

    vm.sh(&format!("dd if=/dev/urandom of=/root/large bs=1M count={MIB} && sync"));
    let full = bytes(&storage, "disks");
    assert!(full - before >= MIB << 20, "{before} → {full}");

    vm.sh("rm /root/large && sync");
    eventually("the blocks come back", || {
        (bytes(&storage, "disks") < before + (8 << 20)).then_some(())
    });
}

#[test]
fn a_base_is_stored_once_for_all_vms_and_can_go_when_the_last_one_has() {
    let storage = Storage::new();
    let tar = Bed::get().tar();
    let create = || storage.bandsox(&["create"]).arg(&tar).ok();
    let ids = [create(), create(), create()];

    let images = kind(&storage, "images");
    assert_eq!(images["count"], 1, "{images}");
    assert_eq!(images["reclaimable_bytes"], 0, "{images}");
    assert_eq!(images["items"][0]["vms"].as_array().map(Vec::len), Some(3), "{images}");
    let shown = storage.bandsox(&["df", "-v"]).ok();
    assert!(ids.iter().all(|id| shown.contains(id.as_str())), "{shown}");

    for id in &ids {
        storage.bandsox(&["rm", id]).ok();
    }
    let images = kind(&storage, "images");
    assert_eq!(images["reclaimable_bytes"], images["bytes"], "{images}");
}
