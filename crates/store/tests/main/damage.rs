//! Metadata files that cannot be understood.

use std::fs;
use std::os::unix::fs::symlink;

use bandsox_spec::Phase;
use bandsox_store::{Damage, Metadata, Mode};
use serde_json::json;

use crate::scene::Scene;

#[test]
fn a_damaged_vm_is_listed_with_the_reason_and_nothing_else_suffers() {
    for (content, reason) in [
        ("".to_owned(), "the file is empty"),
        ("\n \n".to_owned(), "the file is empty"),
        ("{\"id\": oops".to_owned(), "the file is not valid JSON (line 1, column 8)"),
        ("[1]".to_owned(), "the file holds no JSON object"),
        (json!({"vcpu": "two"}).to_string(), "\"vcpu\" is text; want a whole number"),
        (json!({"rootfs_path": 7}).to_string(), "\"rootfs_path\" is a number; want text"),
        (json!({"vsock_config": "on"}).to_string(), "\"vsock_config\" is text; want an object"),
        (
            json!({"vsock_config": {"cid": -3}}).to_string(),
            "\"vsock_config.cid\" is a number; want a whole number of 32 bits",
        ),
        (
            json!({"id": "another"}).to_string(),
            "the file is about the VM \"another\", not about the one it is named after",
        ),
        (" ".repeat(1 << 20) + "{}", "the file is larger than 1048576 bytes"),
    ] {
        let scene = Scene::new();
        let vms = scene.vms(2);
        scene.write_metadata(&vms[0], &content);

        let damaged = scene.damaged();

        assert_eq!(damaged.len(), 1);
        assert_eq!(damaged[0].id.as_ref(), Some(&vms[0]));
        assert_eq!(damaged[0].error.to_string(), reason);
        assert_eq!(scene.healthy(), [vms[1].clone()]);
        assert_eq!(scene.state(&vms[1]).phase, Phase::Created);
        drop(scene.start(&vms[1]));
        assert!(scene.store.update(&vms[0], |_| ()).is_err());
        assert_eq!(fs::read_to_string(scene.store.paths().metadata(&vms[0])).ok(), Some(content));
    }
}

#[test]
fn what_is_no_file_is_neither_followed_nor_waited_for() {
    let scene = Scene::new();
    let vms = scene.vms(3);
    let paths = scene.store.paths();
    for id in &vms {
        fs::rename(paths.metadata(id), paths.root().join(id.as_str())).expect("moved");
    }
    symlink(paths.root().join(vms[0].as_str()), paths.metadata(&vms[0])).expect("a link");
    fs::create_dir(paths.metadata(&vms[1])).expect("a directory");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        paths.metadata(&vms[2]),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .expect("a pipe");

    let damaged = scene.damaged();

    assert_eq!(damaged.len(), 3);
    assert!(damaged.iter().all(|entry| matches!(entry.error, Damage::NotRegular)));
    // Each of them can be removed, and what the link pointed to stays.
    for id in &vms {
        scene.store.remove(id).expect("it does not run");
    }
    assert!(paths.root().join(vms[0].as_str()).exists());
    assert!(scene.damaged().is_empty());
}

#[test]
fn files_that_are_no_vms_are_told_from_those_that_are() {
    let scene = Scene::new();
    let id = scene.vm();
    let dir = scene.store.paths().metadata_dir();
    for name in ["notes.txt", "x.json~", ".x.json.swp", ".hidden.json", "README"] {
        fs::write(dir.join(name), "{}").expect("written");
    }
    fs::write(dir.join("bad name.json"), "{}").expect("written");

    assert_eq!(scene.healthy(), [id]);
    let damaged = scene.damaged();
    assert_eq!(damaged.len(), 1);
    assert!(matches!(damaged[0].error, Damage::BadName { .. }));
    assert_eq!(damaged[0].path, dir.join("bad name.json"));
}

#[test]
fn a_running_vm_with_damaged_metadata_is_known_to_run() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let (_first, _) = scene.start(&vms[0]);
    let (_second, _) = scene.start(&vms[1]);
    scene.damage(&vms[0]);
    fs::remove_file(scene.store.paths().metadata(&vms[1])).expect("it was there");

    let damaged = scene.damaged();

    assert_eq!(damaged.len(), 2);
    assert!(damaged.iter().all(|entry| entry.live));
    assert!(scene.store.try_lock_vm(&vms[0]).expect("an answer").is_none());
    assert!(scene.store.remove(&vms[0]).is_err());
    assert_eq!(scene.store.resolve(vms[1].as_str()).ok(), Some(vms[1].clone()));
}

#[test]
fn nothing_that_a_damaged_file_may_refer_to_is_reclaimed() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let paths = scene.store.paths();
    let stray = paths.disks().join("0123456789ab.ext4");
    fs::write(&stray, "may be named by the damaged file").expect("written");
    fs::create_dir(paths.socket_dir(&vms[0])).expect("made");
    fs::create_dir(paths.log_dir(&vms[0])).expect("made");
    scene.damage(&vms[0]);

    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert!(report.reclaimed.is_empty(), "{report:?}");
    assert_eq!(report.kept.len(), 1);
    assert_eq!(report.kept[0].path, stray);
    assert_eq!(report.kept[0].damaged, [paths.metadata(&vms[0])]);
    for path in [stray, paths.disk(&vms[0]), paths.socket_dir(&vms[0]), paths.log_dir(&vms[0])] {
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
fn a_change_that_would_damage_metadata_is_not_written() {
    let scene = Scene::new();
    let id = scene.vm();
    let before = scene.read(&id);

    let refusal = scene.store.update(&id, |metadata| metadata.set("vcpu", json!("two")));

    assert!(refusal.is_err());
    assert_eq!(scene.read(&id), before);
}

#[test]
fn the_largest_allowed_file_is_read() {
    let scene = Scene::new();
    let id = scene.vm();
    let limit = usize::try_from(Metadata::MAX_BYTES).expect("fits");
    scene.write_metadata(&id, " ".repeat(limit - 2) + "{}");

    assert_eq!(scene.healthy(), [id]);
}
