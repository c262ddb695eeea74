//! Deleting VMs.

use std::fs;

use bandsox_spec::VmId;
use bandsox_store::{Mode, RemoveError, What};
use serde_json::json;

use crate::scene::Scene;

#[test]
fn everything_of_a_vm_goes_and_nothing_of_others_nor_any_image() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let paths = scene.store.paths();
    let image = paths.images().join("base.erofs");
    let outside = paths.root().join("precious.ext4");
    fs::write(&image, "image").expect("written");
    fs::write(&outside, "somebody's").expect("written");
    for id in &vms {
        drop(scene.start(id));
        fs::create_dir(paths.socket_dir(id)).expect("made");
        fs::write(paths.control_socket(id), "").expect("written");
        fs::create_dir(paths.log_dir(id)).expect("made");
        fs::write(paths.console_log(id), "boot").expect("written");
        fs::write(paths.sockets().join(format!("{id}.sock")), "").expect("written");
    }
    scene
        .store
        .update(&vms[0], |metadata| {
            metadata.set("rootfs_path", json!(image));
            metadata.set("overlay_path", json!(outside));
        })
        .expect("room on the disk");

    let removed = scene.store.remove(&vms[0]).expect("it does not run");

    assert!(removed.bytes > 0);
    for root in [paths.disks(), paths.sockets(), paths.logs(), paths.locks(), paths.metadata_dir()]
    {
        for entry in fs::read_dir(root).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            assert!(!name.to_string_lossy().contains(vms[0].as_str()), "{name:?}");
        }
    }
    assert!(image.exists() && outside.exists());
    assert_eq!(scene.healthy(), [vms[1].clone()]);
    assert!(paths.disk(&vms[1]).exists() && paths.control_socket(&vms[1]).exists());
    let leases = scene.allocator("cid").to_string();
    assert!(!leases.contains(vms[0].as_str()));
}

#[test]
fn a_vm_whose_id_begins_as_anothers_loses_nothing_with_it() {
    let scene = Scene::new();
    let short = scene.vm();
    let long: VmId = format!("{short}-2").parse().expect("a valid id");
    let paths = scene.store.paths();
    scene.write_metadata(&long, json!({"id": long}).to_string());
    fs::write(paths.disk(&long), "disk").expect("written");
    fs::create_dir(paths.log_dir(&long)).expect("made");

    scene.store.remove(&short).expect("it does not run");

    assert!(paths.disk(&long).exists() && paths.log_dir(&long).exists());
    assert_eq!(scene.healthy(), [long]);
}

#[test]
fn a_running_vm_is_not_removed_and_a_missing_one_is_said_to_be() {
    let scene = Scene::new();
    let id = scene.vm();
    let (lock, _) = scene.start(&id);

    assert!(matches!(scene.store.remove(&id), Err(RemoveError::Running { .. })));
    assert!(scene.store.paths().disk(&id).exists());

    drop(lock);
    scene.store.remove(&id).expect("it does not run");
    assert!(matches!(scene.store.remove(&id), Err(RemoveError::NotFound { .. })));
}

#[test]
fn a_damaged_vm_can_be_removed() {
    let scene = Scene::new();
    let id = scene.vm();
    scene.damage(&id);

    scene.store.remove(&id).expect("it does not run");

    assert!(scene.damaged().is_empty());
    assert!(!scene.store.paths().disk(&id).exists());
}

#[test]
fn an_interrupted_removal_is_finished_by_the_next_command_that_changes_anything() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let paths = scene.store.paths();
    let tombstone = paths.metadata_dir().join(format!(".removing-{}", vms[0]));
    fs::rename(paths.metadata(&vms[0]), &tombstone).expect("moved");
    // A damaged file elsewhere does not stand in the way: the tombstone says what is to go.
    scene.damage(&vms[1]);
    assert!(scene.healthy().is_empty());

    scene.vm();

    assert!(!tombstone.exists() && !paths.disk(&vms[0]).exists() && !paths.lock(&vms[0]).exists());
    assert!(paths.disk(&vms[1]).exists());
}

#[test]
fn cleanup_reports_an_interrupted_removal() {
    let scene = Scene::new();
    let id = scene.vm();
    let paths = scene.store.paths();
    let tombstone = paths.metadata_dir().join(format!(".removing-{id}"));
    fs::rename(paths.metadata(&id), &tombstone).expect("moved");

    let dry = scene.store.cleanup(Mode::DryRun).expect("a report");
    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert_eq!(report.reclaimed.len(), 1);
    assert_eq!(report.reclaimed[0].what, What::Removal);
    assert_eq!((dry.reclaimed.len(), dry.bytes()), (1, report.bytes()));
    assert!(report.bytes() > 0);
    assert!(!paths.disk(&id).exists() && !tombstone.exists());
}

#[test]
fn metadata_that_were_put_back_keep_what_an_interrupted_removal_had_not_deleted() {
    let scene = Scene::new();
    let id = scene.vm();
    let paths = scene.store.paths();
    let tombstone = paths.metadata_dir().join(format!(".removing-{id}"));
    fs::copy(paths.metadata(&id), &tombstone).expect("copied");

    scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert!(paths.disk(&id).exists() && !tombstone.exists());
    assert_eq!(scene.healthy(), [id]);
}
