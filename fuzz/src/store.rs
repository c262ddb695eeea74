//! A store whose files people have edited: allocators, another VM's lock record and metadata.

use std::fs;

use bandsox_spec::VmId;
use bandsox_store::{CIDS, Create, PORTS, ProcessIdentity, Store};
use serde_json::{Map, Value};

use crate::scratch::Scratch;
use crate::script::Script;

/// Four files' contents, all but the last with their lengths in front of them; then a VM is started and stopped.
pub fn run(bytes: &[u8]) {
    storage(&mut Script::new(bytes));
}

fn id(text: &str) -> VmId {
    text.parse().expect("a valid id")
}

/// A VM gets a CID and a port whatever lies around, nobody else's, and strangers' keys survive.
fn storage(script: &mut Script<'_>) -> Option<()> {
    let (cids, ports) = (piece(script)?, piece(script)?);
    let (record, other) = (piece(script)?, script.rest());
    let scratch = Scratch::new();
    let store = Store::open(&scratch.inner().join("store"), Create::Yes).expect("a new store");
    let (us, them) = (id("ours"), id("theirs"));
    let paths = store.paths();
    fs::write(paths.cid_allocator(), cids).expect("writes");
    fs::write(paths.port_allocator(), ports).expect("writes");
    fs::write(paths.metadata(&them), other).expect("writes");
    fs::write(paths.metadata(&us), OURS).expect("writes");

    store.list().expect("damage is listed, not refused");
    store.resolve("theirs").ok();
    let theirs = store.try_lock_vm(&them).expect("an answer").expect("nobody has it");
    fs::write(paths.lock(&them), record).expect("writes");
    let ours = store.try_lock_vm(&us).expect("an answer").expect("nobody has it");
    let process = ProcessIdentity::current().expect("/proc is mounted");
    store.begin_run(&ours, &process).expect("our metadata are good");
    let lease = store.lease(&ours).expect("two VMs cannot have all numbers");
    assert!(CIDS.contains(&lease.cid) && PORTS.contains(&lease.port));
    assert_eq!(store.lease(&ours).expect("asked again"), lease);
    if let Ok(other) = store.lease(&theirs) {
        assert!(other.cid != lease.cid && other.port != lease.port);
    }
    kept(cids, &fs::read(paths.cid_allocator()).expect("reads"), &["next_cid", "leases"]);
    let known = ["next_port", "used_ports", "leases"];
    kept(ports, &fs::read(paths.port_allocator()).expect("reads"), &known);
    store.release(&ours).expect("our metadata are good");
    drop((ours, theirs));
    store.list().expect("damage is listed, not refused");
    scratch.assert_unharmed();
    Some(())
}

/// A file's content, its length in front of it.
fn piece<'a>(script: &mut Script<'a>) -> Option<&'a [u8]> {
    let length = script.half()?;
    Some(script.bytes(length.into()))
}

/// Every key of `before` that is not `known` is in `after`, with its value.
fn kept(before: &[u8], after: &[u8], known: &[&str]) {
    let after: Map<String, Value> = serde_json::from_slice(after).expect("our own file");
    let Ok(before) = serde_json::from_slice::<Map<String, Value>>(before) else { return };
    for (key, value) in before.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
}

const OURS: &str = r#"{"id": "ours", "status": "stopped", "vsock_config": {"enabled": true}}"#;

/// Files in order, and files that are not.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let storage = |parts: [&str; 3], other: &str| {
        let mut seed = Vec::new();
        for part in parts {
            seed.extend_from_slice(&u16::try_from(part.len()).expect("small").to_le_bytes());
            seed.extend_from_slice(part.as_bytes());
        }
        seed.extend_from_slice(other.as_bytes());
        seed
    };
    let cids = r#"{"next_cid":4,"leases":{"theirs":3},"k":1.5}"#;
    let ports = r#"{"next_port":9001,"used_ports":[9000],"leases":{"theirs":9000},"k":[null]}"#;
    let record = r#"{"use":"run","pid":1,"start":2,"boot_id":"b","cid":5,"port":9005}"#;
    let theirs =
        r#"{"id":"theirs","status":"running","vsock_config":{"enabled":true,"cid":4,"port":9001}}"#;
    vec![
        storage([cids, ports, record], theirs),
        storage(["", "{}", ""], "{\"id\": oops, \"cid\": 3"),
    ]
}
