//! The machine itself: type, vCPUs, memory, and how it is set to migrate.

use serde_json::Value as Json;

use crate::part::Part;
use crate::qom::{Node, Qom, ReadError};
use crate::rules;

/// `machine`: type, topology of the vCPUs, and the switches of the board.
pub(crate) fn machine(qom: &mut Qom<'_>) -> Result<Part, ReadError> {
    let kind = qom.get("/machine", "type")?;
    let kind = kind.as_ref().and_then(Json::as_str);
    let want = "the machine's type";
    let kind = kind.ok_or(ReadError::Shape { command: "qom-get", want })?;
    let mut machine = Part::machine(kind.trim_end_matches("-machine"));

    let topology = qom.get("/machine", "smp")?.unwrap_or_default();
    for name in rules::TOPOLOGY {
        let Some(count) = topology.get(name) else { continue };
        let Some(attribute) = machine.exact(rules::topology_name(name), count) else { continue };
        attribute.absent = Some(1_u8.into());
        attribute.hint = Some("-smp".to_owned());
        if *name != "cpus" {
            attribute.follows.push("machine#vcpus".to_owned());
        }
    }
    for (name, value) in qom.get_all("/machine", rules::BOARD)? {
        if let Some(switch) = machine.exact(&name, &value) {
            // A switch that only one version of QEMU has says nothing about the other's machine.
            switch.absent = None;
            switch.hint = Some(format!("-machine {name}=…"));
        }
    }
    Ok(machine)
}

/// `memory`: how much RAM there is, and how large the firmware is.
pub(crate) fn memory(qom: &mut Qom<'_>, nodes: &[Node]) -> Result<Part, ReadError> {
    let mut memory = Part::of_machine("memory", "-m");
    let summary = qom.query("query-memory-size-summary")?;
    for (key, name) in [("base-memory", "ram"), ("plugged-memory", "plugged")] {
        if let Some(size) = summary.get(key).and_then(|bytes| memory.exact(name, bytes)) {
            size.unit = Some("bytes".to_owned());
        }
    }
    for node in nodes {
        let name = node.path.rsplit('/').next().unwrap_or_default();
        if node.kind == "memory-region"
            && let Some(name) = rules::firmware_region(name)
            && let Some(size) = qom.get(&node.path, "size")?
            && let Some(size) = memory.exact(name, &size)
        {
            (size.absent, size.unit) = (None, Some("bytes".to_owned()));
            size.hint = Some("the firmware's file".to_owned());
        }
    }
    Ok(memory)
}

/// `migration`: capabilities that both sides must have alike.
pub(crate) fn migration(qom: &mut Qom<'_>) -> Result<Part, ReadError> {
    let mut migration = Part::of_machine("migration", "migrate-set-capabilities");
    let answer = qom.query("query-migrate-capabilities")?;
    for entry in answer.as_array().into_iter().flatten() {
        let name = entry.get("capability").and_then(Json::as_str).unwrap_or_default();
        if let Some(on) = entry.get("state").filter(|_| rules::CAPABILITIES.contains(&name)) {
            migration.exact(name, on);
        }
    }
    Ok(migration)
}
