//! Devices: where they are, what they are, and how they are set.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::disk::{Disk, Disks};
use crate::part::Part;
use crate::qom::{Node, Qom, ReadError};
use crate::rules;

/// One part for each device that is not part of the machine's type.
pub(crate) fn devices(
    qom: &mut Qom<'_>,
    nodes: &[Node],
    disks: &Disks,
) -> Result<Vec<Part>, ReadError> {
    let mut found: BTreeMap<String, Part> = BTreeMap::new();
    let mut ordinals: BTreeMap<&str, u32> = BTreeMap::new();
    for node in nodes.iter().filter(|node| is_device(node)) {
        let bus = qom.get(&node.path, "parent_bus")?;
        let bus = bus.as_ref().and_then(Value::as_str).unwrap_or_default();
        if rules::is_built_in(node, bus) {
            continue;
        }
        let Some(values) = values(qom, node, &BTreeSet::new())? else { continue };
        let name = place(bus, &values).unwrap_or_else(|| {
            let ordinal = ordinals.entry(&node.kind).or_default();
            let name = format!("{}/{ordinal}", node.kind);
            *ordinal = ordinal.saturating_add(1);
            name
        });
        let mut device = Part::device(&name, &node.kind, "-device");
        let backend = format!("{}/virtio-backend", node.path);
        let known = values.keys().cloned().collect();
        add(&mut device, values, &node.path, disks);
        // A virtio device is two objects, its transport and itself; what both have is the same property by two names.
        if let Some(backend) = nodes.iter().find(|node| node.path == backend)
            && let Some(values) = self::values(qom, backend, &known)?
        {
            add(&mut device, values, &backend.path, disks);
        }
        add_rom(qom, nodes, node, &mut device)?;
        found.insert(name, device);
    }
    Ok(found.into_values().collect())
}

/// Whether the object may be a device of its own.
fn is_device(node: &Node) -> bool {
    let parts: Vec<&str> = node.path.split('/').skip(1).collect();
    let is_outer =
        matches!(*parts, ["machine", "peripheral" | "peripheral-anon" | "unattached", _]);
    is_outer && !node.kind.ends_with("-cpu")
}

/// What the device can be given, and was, but for what is known.
fn values(
    qom: &mut Qom<'_>,
    node: &Node,
    known: &BTreeSet<String>,
) -> Result<Option<Map<String, Value>>, ReadError> {
    let Some(names) = qom.properties_of(&node.kind)? else { return Ok(None) };
    let is_wanted = |name: &&str| !rules::is_hosts_business(name) && !known.contains(*name);
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).filter(is_wanted).collect();
    let wanted: Vec<&str> = wanted.into_iter().collect();
    qom.get_all(&node.path, &wanted).map(Some)
}

/// The device's place: `pci.0/03.0`, `virtio-mmio-bus.23`; `None` where its bus has no addresses.
fn place(bus: &str, values: &Map<String, Value>) -> Option<String> {
    let name = bus.rsplit('/').next().filter(|name| !name.is_empty())?;
    if let Some(address) = values.get("addr").and_then(Value::as_u64) {
        return Some(format!("{name}/{:02x}.{}", address >> 3, address & 7));
    }
    if name.starts_with("virtio-mmio-bus") {
        return Some(name.to_owned());
    }
    let part = |key: &str| {
        let value = values.get(key)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    if let Some(port) = part("port").filter(|port| !port.is_empty()) {
        return Some(format!("{name}/{port}"));
    }
    let target = ["channel", "scsi-id", "lun"].map(part);
    match target {
        [Some(channel), Some(id), Some(lun)] => Some(format!("{name}/{channel}:{id}:{lun}")),
        _ => part("nr").map(|nr| format!("{name}/{nr}")),
    }
}

fn add(device: &mut Part, values: Map<String, Value>, path: &str, disks: &Disks) {
    for (name, value) in values {
        if name == "drive" {
            if let Some(disk) = disks.find(&value, path) {
                add_disk(device, disk);
            }
            continue;
        }
        let follows = rules::follows(device.path(), &name);
        let Some(attribute) = device.exact(&name, &rules::normal(&name, value)) else { continue };
        attribute.follows.extend(follows);
        attribute.hint = attribute.hint.as_ref().map(|device| format!("{device},{name}=…"));
        if rules::is_internal(&name) {
            // A switch for compatibility, whose meaning where it is unknown cannot be told.
            attribute.absent = None;
        }
    }
}

fn add_disk(device: &mut Part, disk: &Disk) {
    if let Some(capacity) = device.exact("capacity", &disk.capacity) {
        (capacity.absent, capacity.unit) = (None, Some("bytes".to_owned()));
        capacity.hint = Some("the size of its image".to_owned());
    }
    if let Some(read_only) = device.exact("read-only", &disk.read_only) {
        read_only.hint = Some("-drive …,readonly=…".to_owned());
    }
}

/// The file that an option ROM comes from is the host's business; that there is one, and how large, is not.
fn add_rom(
    qom: &mut Qom<'_>,
    nodes: &[Node],
    node: &Node,
    device: &mut Part,
) -> Result<(), ReadError> {
    let is_rom = |each: &&Node| {
        let name = each.path.strip_prefix(&*node.path).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| name.ends_with(".rom[0]") && !name.contains('/'))
    };
    let Some(rom) = nodes.iter().find(is_rom) else { return Ok(()) };
    let Some(size) = qom.get(&rom.path, "size")? else { return Ok(()) };
    if let Some(attribute) = device.exact("rom", &size) {
        attribute.unit = Some("bytes".to_owned());
        attribute.hint = attribute.hint.as_ref().map(|device| format!("{device},romfile=…"));
    }
    Ok(())
}
