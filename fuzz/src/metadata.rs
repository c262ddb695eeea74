//! A VM's metadata, which other versions wrote and people edit.

use std::hint::black_box;

use bandsox_spec::VmId;
use bandsox_store::Metadata;
use serde_json::{Map, Value};

/// What is rewritten is what was read, in its order, whether we know it or not; and nothing that can be asked panics.
pub fn run(bytes: &[u8]) {
    let id: VmId = "abc".parse().expect("a valid id");
    let Ok(metadata) = Metadata::parse(&id, bytes) else { return };
    let again = Metadata::parse(&id, &metadata.to_bytes()).expect("our own file");
    assert_eq!(again, metadata);
    let original: Map<String, Value> = serde_json::from_slice(bytes).expect("it was parsed");
    assert!(original.iter().eq(again.as_object()), "{original:?} became {again:?}");

    black_box([
        metadata.vcpus().is_ok(),
        metadata.mem_mib().is_ok(),
        metadata.disk_size_mib().is_ok(),
    ]);
    black_box((metadata.vsock(), metadata.created_at(), metadata.phase(), metadata.stop_reason()));
    black_box((metadata.process(), metadata.env_vars(), metadata.engine()));
}

/// Files of old and new versions.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let old = r#"{"id":"abc","name":null,"image":"x","vcpu":2.0,"mem_mib":512,"disk_size_mib":0,
        "rootfs_path":"/i","network_config":{"tap":"t"},"created_at":1736899200.1234567,"status":"stopped",
        "pid":null,"env_vars":{"A":"1","P":80,"D":true},"mcp":[],"metadata":{"o":"\u00e9"},"zz":{"r":0.1}}"#;
    let new = r#"{"id":"abc","name":"n","vsock_config":{"enabled":true,"cid":3,"port":9000},"status":"running",
        "created_at":"2026-01-15T12:34:56.789012","pid":7,"pid_start":8,"boot_id":"b","engine":"qemu",
        "overlay_path":"/o","base_identity":{"k":1},"status_reason":{"kind":"engine_died","detail":"d"}}"#;
    vec![old.as_bytes().to_vec(), new.as_bytes().to_vec()]
}
