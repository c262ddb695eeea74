//! What takes how much room, and who needs which image.

use std::fs;

use crate::scene::{Scene, new_vm};

#[test]
fn a_base_is_listed_once_with_all_vms_that_need_it_and_blobs_apart() {
    let scene = Scene::new();
    let images = scene.store.paths().images();
    fs::create_dir_all(&images).expect("made");
    let (shared, idle) = (images.join("aa.erofs"), images.join("bb.erofs"));
    for path in [&shared, &idle] {
        fs::write(path, vec![1; 10_000]).expect("written");
    }
    let (disk, blob) = (images.join("cc.ext4"), images.join("blobs/sha256/dd"));
    fs::create_dir_all(images.join("blobs/sha256")).expect("made");
    for path in [&disk, &blob] {
        fs::write(path, vec![1; 10_000]).expect("written");
    }
    fs::write(images.join(".tmp-x"), "under way").expect("written");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let vm = bandsox_store::NewVm { rootfs_path: shared.clone(), ..new_vm(None) };
        ids.push(scene.store.create(vm).expect("created").id().clone());
    }

    let in_use = scene.store.bases_in_use().expect("listed");
    let mut usage = scene.store.usage(&in_use).expect("listed");

    usage.bases[0].vms.sort();
    ids.sort();
    assert_eq!(usage.bases.len(), 3);
    assert_eq!((&usage.bases[2].path, &usage.blobs[0].path), (&disk, &blob));
    assert_eq!((&usage.bases[0].path, &usage.bases[0].vms), (&shared, &ids));
    assert!(usage.bases[0].bytes >= 10_000);
    assert_eq!((&usage.bases[1].path, usage.bases[1].vms.len()), (&idle, 0));
}

#[test]
fn damaged_metadata_are_named_as_they_may_need_any_image() {
    let scene = Scene::new();
    let id = scene.vm();
    let path = scene.store.paths().metadata(&id);
    fs::write(&path, "{").expect("written");

    let in_use = scene.store.bases_in_use().expect("listed");

    assert_eq!(in_use.damaged, [path]);
    assert!(in_use.vms.is_empty());
}

#[test]
fn a_vm_counts_for_the_name_that_it_was_made_under_and_for_each_if_that_is_not_known() {
    let scene = Scene::new();
    let base = scene.store.paths().images().join("aa.erofs");
    let vm = |reference: Option<&str>| {
        let image_reference = reference.map(str::to_owned);
        let vm =
            bandsox_store::NewVm { rootfs_path: base.clone(), image_reference, ..new_vm(None) };
        scene.store.create(vm).expect("created").id().clone()
    };
    let (first, gone, unknown) = (vm(Some("a:1")), vm(Some("old:1")), vm(None));

    let in_use = scene.store.bases_in_use().expect("listed");

    let users = |others: &[&str]| {
        let users = in_use.users_but_of(&base, others);
        [&first, &gone, &unknown].map(|id| users.contains(id))
    };
    assert_eq!(users(&["b:1"]), [true; 3], "the users of a:1");
    assert_eq!(users(&["a:1"]), [false, true, true], "the users of b:1");
    assert_eq!(users(&[]), [true; 3], "the users of the base");
}
