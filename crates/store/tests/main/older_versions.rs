//! Metadata as BandSox 2.x and 3.x, in Python, wrote them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bandsox_spec::{Phase, StopReason, VmId};
use bandsox_store::{Create, Store, Transport, VsockConfig};
use serde_json::Value;

use crate::scene::{Scene, lease};

/// 2.x, before vsock: no `vsock_config`, no name, an epoch with all its digits.
const V2: &str = r#"{"id": "6f1c2b7e-8a1d-4c55-9d0e-aa3f00000001", "name": null, "image": "ubuntu:latest", "vcpu": 1, "mem_mib": 128, "disk_size_mib": 4096, "rootfs_path": "/var/lib/bandsox/images/6f1c2b7e-8a1d-4c55-9d0e-aa3f00000001.ext4", "network_config": {"guest_ip": "172.16.1.2", "tap": "tap6f1c"}, "created_at": 1736899200.1234567, "status": "stopped", "pid": null, "env_vars": null, "mcp": null, "metadata": {}}"#;

/// 3.x: vsock with numbers that it kept while stopped, and whatever else people put in.
const V3: &str = r#"{
    "zz_site": {"rack": 7, "ratio": 0.1},
    "id": "9d0e",
    "name": "Old One",
    "image": "/srv/images/debian.ext4",
    "vcpu": 2.0,
    "mem_mib": 512,
    "disk_size_mib": 0,
    "rootfs_path": "/srv/images/debian.ext4",
    "network_config": null,
    "vsock_config": {"enabled": true, "cid": 3, "port": 9000, "uds_path": "/var/lib/bandsox/sockets/9d0e_vsock.sock"},
    "created_at": "2026-01-15T12:34:56.789012",
    "status": "running",
    "pid": 4242,
    "env_vars": {"A": "1", "PORT": 80, "DEBUG": true},
    "mcp": [],
    "metadata": {"owner": "caf\u00e9"}
}"#;

fn put(scene: &Scene, id: &str, text: &str) -> VmId {
    let id: VmId = id.parse().expect("a valid id");
    scene.write_metadata(&id, text);
    id
}

#[test]
fn a_vm_of_2_x_is_listed_and_needs_vsock_or_serial_only_to_start() {
    let scene = Scene::new();
    let id = put(&scene, "6f1c2b7e-8a1d-4c55-9d0e-aa3f00000001", V2);

    assert_eq!(scene.healthy(), std::slice::from_ref(&id));
    let (metadata, state) = scene.store.state(&id).expect("a VM");
    assert_eq!(state.phase, Phase::Stopped);
    assert_eq!(metadata.name(), None);
    assert_eq!(metadata.image(), Some("ubuntu:latest"));
    assert_eq!(
        metadata.rootfs_path(),
        Some(Path::new("/var/lib/bandsox/images/6f1c2b7e-8a1d-4c55-9d0e-aa3f00000001.ext4"))
    );
    assert_eq!(metadata.vsock(), VsockConfig::Absent);
    assert!(metadata.vsock().transport(Transport::Vsock).is_err());
    assert_eq!(metadata.vsock().transport(Transport::Serial), Ok(Transport::Serial));
    assert!(metadata.env_vars().is_empty());
}

#[test]
fn a_vm_of_3_x_is_understood_whatever_the_types() {
    let scene = Scene::new();
    let id = put(&scene, "9d0e", V3);
    let metadata = scene.read(&id);

    assert_eq!(metadata.vcpus().map(|vcpus| vcpus.get()), Ok(2));
    assert!(metadata.disk_size_mib().is_err(), "said when it is needed, not before");
    assert!(metadata.created_at().is_some());
    let env: Vec<String> =
        metadata.env_vars().iter().map(|var| format!("{}={}", var.key(), var.value())).collect();
    assert_eq!(env, ["A=1", "PORT=80", "DEBUG=true"]);
    assert_eq!(metadata.process(), None, "a pid alone identifies nobody");
    assert_eq!(scene.store.resolve("Old One").ok(), Some(id));
}

#[test]
fn a_run_that_3_x_left_is_over_and_its_numbers_are_free() {
    let scene = Scene::new();
    let id = put(&scene, "9d0e", V3);
    let ours = scene.vm();

    let state = scene.state(&id);

    assert_eq!((state.phase, state.reason), (Phase::Crashed, Some(StopReason::MonitorDied)));
    assert_eq!(scene.start(&ours).1, lease(3, 9000));
}

#[test]
fn numbers_that_3_x_kept_for_a_stopped_vm_are_no_lease() {
    let scene = Scene::new();
    let id = put(&scene, "9d0e", &V3.replace("running", "stopped"));
    let ours = scene.vm();

    let its_lock = scene.lock(&id);
    let (_lock, first) = scene.start(&ours);
    let its = scene.store.lease(&its_lock).expect("a free CID and port");

    assert_eq!(first, lease(3, 9000), "locked is not leased");
    assert_eq!(its, lease(4, 9001));
    let metadata = scene.read(&id);
    let config = &metadata.as_object()["vsock_config"];
    assert_eq!(config["uds_path"], "/var/lib/bandsox/sockets/9d0e_vsock.sock");
}

#[test]
fn looking_at_a_stopped_old_vm_does_not_touch_its_file() {
    let scene = Scene::new();
    let id = put(&scene, "6f1c2b7e-8a1d-4c55-9d0e-aa3f00000001", V2);

    scene.healthy();
    scene.state(&id);
    scene.store.update(&id, |_| ()).expect("nothing to change");

    assert_eq!(fs::read_to_string(scene.store.paths().metadata(&id)).ok().as_deref(), Some(V2));
}

#[test]
fn an_update_keeps_unknown_keys_their_order_and_every_digit() {
    let scene = Scene::new();
    for (id, text) in [("6f1c2b7e-8a1d-4c55-9d0e-aa3f00000001", V2), ("9d0e", V3)] {
        let id = put(&scene, id, text);
        let before: Value = serde_json::from_str(text).expect("JSON");

        let name = "renamed".parse().expect("a valid name");
        scene.store.rename(&id, &name).expect("a free name");

        let mut after = scene.read(&id).as_object().clone();
        let keys: Vec<&String> = after.keys().collect();
        assert_eq!(keys, before.as_object().expect("an object").keys().collect::<Vec<_>>());
        assert_eq!(after["name"], "renamed");
        after["name"] = before["name"].clone();
        assert_eq!(Value::Object(after).to_string(), before.to_string());
        scene.store.remove(&id).expect("it does not run");
    }
}

#[test]
fn an_old_run_ends_with_the_order_of_keys_kept() {
    let scene = Scene::new();
    let id = put(&scene, "9d0e", V3);
    let before: Value = serde_json::from_str(V3).expect("JSON");
    let keys = before.as_object().expect("an object").keys();

    drop(scene.start(&id));
    scene.state(&id);

    let after = scene.read(&id);
    let kept = after.as_object().keys().filter(|key| before.get(key).is_some());
    assert_eq!(kept.collect::<Vec<_>>(), keys.collect::<Vec<_>>());
    assert_eq!(after.as_object()["zz_site"], before["zz_site"]);
}

#[test]
fn directories_that_older_versions_left_open_are_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("bandsox");
    for name in ["images", "metadata", "sockets"] {
        fs::create_dir_all(root.join(name)).expect("made");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).expect("ours");
    }

    let store = Store::open(&root, Create::No).expect("it is a store");

    for dir in [store.paths().metadata_dir(), store.paths().sockets(), store.paths().locks()] {
        let mode = fs::metadata(dir).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
