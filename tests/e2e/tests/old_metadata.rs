//! What BandSox 2.x and 3.x, in Python, left in `metadata/`.

use std::fs;

use bandsox_e2e::{Bed, Storage, Vm};
use serde_json::{Value, json};

/// As 2.x wrote it: before vsock, dates as text.
fn version_2(rootfs: &str) -> Value {
    json!({
        "id": "3f2a9c1e-77aa-4c0b-9d55-0a1b2c3d4e5f", "name": "legacy", "image": "ubuntu:latest", "vcpu": 1,
        "mem_mib": 256, "disk_size_mib": 512, "rootfs_path": rootfs, "network_config": {"guest_ip": "172.16.0.2"},
        "created_at": "2025-11-03T10:11:12.123456", "status": "stopped", "pid": null, "env_vars": null,
        "mcp": null, "metadata": {"team": "red"}, "something_new": [1, {"nested": true}]
    })
}

/// As 3.x wrote it: a vsock lease of long ago, a pid of long ago.
fn version_3(rootfs: &str) -> Value {
    json!({
        "id": "3f2a9c1e-88bb-4c0b-9d55-0a1b2c3d4e5f", "name": "recent", "image": "/images/rootfs.ext4", "vcpu": 1,
        "mem_mib": 256, "disk_size_mib": 512, "rootfs_path": rootfs, "network_config": null,
        "vsock_config": {"enabled": true, "cid": 7, "port": 9004, "uds_path": "/var/lib/bandsox/vsock/x.sock"},
        "created_at": 1_767_225_600.25, "status": "running", "pid": 999_999_999_u32, "env_vars": {"GREETING": "hello"},
        "mcp": {}, "metadata": {}
    })
}

fn planted<'a>(storage: &'a Storage, metadata: &Value) -> Vm<'a> {
    let dir = storage.root().join("metadata");
    fs::create_dir_all(&dir).expect("ours");
    let id = metadata["id"].as_str().expect("given").to_owned();
    let text = serde_json::to_string_pretty(metadata).expect("plain data");
    fs::write(dir.join(format!("{id}.json")), text).expect("ours");
    Vm::new(storage, id)
}

#[test]
fn metadata_of_2_x_is_listed_refused_without_vsock_and_started_over_serial() {
    let storage = Storage::new();
    let rootfs = storage.scratch("legacy.ext4");
    fs::copy(Bed::get().ext4(), &rootfs).expect("copied");
    let metadata = version_2(&rootfs.to_string_lossy());
    let vm = planted(&storage, &metadata);

    assert_eq!(vm.status(), "stopped");
    assert_eq!(vm.inspect()["metadata"]["team"], "red");
    vm.run("start", &[]).output().refused("VM requires vsock support. Please recreate the VM");
    storage.bandsox(&["start", "legacy", "--serial-only"]).ok();
    // Step 1 of the guide: save what is in it.
    let back = storage.scratch("saved");
    vm.download("/etc/passwd", &back).ok();
    assert!(fs::read_to_string(&back).expect("downloaded").contains("alice"));
    storage.bandsox(&["stop", "legacy"]).ok();

    let now = vm.metadata();
    for key in
        ["something_new", "network_config", "metadata", "created_at", "image", "rootfs_path", "mcp"]
    {
        assert_eq!(now[key], metadata[key], "{key} changed");
    }
    let order =
        |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(order(&now)[..order(&metadata).len()], order(&metadata)[..], "the order changed");
    // Step 2: remove it; the image stays.
    storage.bandsox(&["rm", "legacy"]).ok();
    assert_eq!(storage.bandsox(&["list"]).ok(), "No VMs found.");
    assert!(rootfs.exists(), "rm removed an image");
}

#[test]
fn metadata_of_3_x_starts_with_a_lease_of_today() {
    let storage = Storage::new();
    let rootfs = Bed::get().ext4();
    let vm = planted(&storage, &version_3(&rootfs.to_string_lossy()));

    assert_eq!(vm.status(), "crashed", "its process is long gone");
    vm.start();

    assert_eq!(vm.metadata()["vsock_config"]["cid"], 3);
    assert_eq!(vm.sh("echo $GREETING"), "hello");
    vm.stop();
    vm.run("rm", &[]).ok();
    assert!(rootfs.exists());
}
