//! The machine itself: type, vCPUs, memory.

use serde_json::{Value, json};

use crate::model::Component;
use crate::qom::{Node, Qom, ReadError};
use crate::rules;

/// `machine`: type, topology of the vCPUs, and the switches of the board.
pub(crate) fn machine(qom: &mut Qom<'_>) -> Result<Component, ReadError> {
    let kind = qom.get("/machine", "type")?;
    let kind = kind.as_ref().and_then(Value::as_str);
    let want = "the machine's type";
    let kind = kind.ok_or(ReadError::Shape { command: "qom-get", want })?;
    let mut machine = Component::new("machine", kind.trim_end_matches("-machine"));

    let topology = qom.get("/machine", "smp")?.unwrap_or_default();
    for name in rules::TOPOLOGY {
        if let Some(count) = topology.get(name) {
            let attribute = machine.exact(rules::topology_name(name), count.clone());
            attribute.absent = Some(json!(1));
            if *name != "cpus" {
                attribute.follows = Some("machine/vcpus".to_owned());
            }
        }
    }
    for (name, value) in qom.get_all("/machine", rules::BOARD)? {
        // A switch that only one version of QEMU has says nothing about the other's machine.
        machine.exact(&name, value).absent = None;
    }
    Ok(machine)
}

/// `memory`: how much RAM there is, and how large the firmware is.
pub(crate) fn memory(qom: &mut Qom<'_>, nodes: &[Node]) -> Result<Component, ReadError> {
    let mut memory = Component::new("memory", "ram");
    let summary = qom.query("query-memory-size-summary")?;
    for (key, name) in [("base-memory", "bytes"), ("plugged-memory", "plugged-bytes")] {
        if let Some(bytes) = summary.get(key) {
            memory.exact(name, bytes.clone());
        }
    }
    for node in nodes {
        let name = node.path.rsplit('/').next().unwrap_or_default();
        if node.kind == "memory-region"
            && let Some(name) = rules::firmware_region(name)
            && let Some(size) = qom.get(&node.path, "size")?
        {
            memory.exact(&format!("{name}-bytes"), size).absent = None;
        }
    }
    Ok(memory)
}
