//! What is behind a disk: not where it comes from, only what the guest sees of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::qom::{Qom, ReadError};

/// A medium.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Disk {
    /// Its size in bytes.
    pub(crate) capacity: Value,
    /// Whether it can only be read.
    pub(crate) read_only: Value,
}

/// All media, by the name of their backend, their node, or the device that they are in.
#[derive(Debug, Default)]
pub(crate) struct Disks(BTreeMap<String, Disk>);

impl Disks {
    /// Asks for all of them.
    pub(crate) fn read(qom: &mut Qom<'_>) -> Result<Self, ReadError> {
        let mut disks = BTreeMap::new();
        for node in list(qom.query("query-named-block-nodes")?, "query-named-block-nodes")? {
            if let (Some(name), Some(disk)) = (name(&node, "node-name"), disk(&node)) {
                disks.insert(name, disk);
            }
        }
        for backend in list(qom.query("query-block")?, "query-block")? {
            let Some(disk) = backend.get("inserted").and_then(disk) else { continue };
            for key in ["device", "qdev"] {
                if let Some(name) = name(&backend, key) {
                    disks.insert(name, disk.clone());
                }
            }
        }
        Ok(Self(disks))
    }

    /// What is in the device whose property `drive` says `drive`, or which has one of these paths.
    pub(crate) fn find(&self, drive: &Value, device: &str) -> Option<&Disk> {
        let named =
            drive.as_str().filter(|name| !name.is_empty()).and_then(|name| self.0.get(name));
        let path = device.strip_suffix("/virtio-backend").unwrap_or(device);
        let id = path.strip_prefix("/machine/peripheral/").unwrap_or(path);
        named.or_else(|| [device, path, id].iter().find_map(|name| self.0.get(*name)))
    }
}

fn list(answer: Value, command: &'static str) -> Result<Vec<Value>, ReadError> {
    let Value::Array(list) = answer else {
        return Err(ReadError::Shape { command, want: "a list" });
    };
    Ok(list)
}

fn name(entry: &Value, key: &str) -> Option<String> {
    entry.get(key)?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn disk(node: &Value) -> Option<Disk> {
    let capacity = node.pointer("/image/virtual-size")?.clone();
    let read_only = node.get("ro").cloned().unwrap_or(Value::Bool(false));
    Some(Disk { capacity, read_only })
}
