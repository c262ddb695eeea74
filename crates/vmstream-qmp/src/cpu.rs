//! vCPUs: model, identity, features.

use serde_json::Value;

use crate::model::{Attribute, Component, Policy};
use crate::qom::{Node, Qom, ReadError};
use crate::rules;

/// One component for each vCPU: `cpu/0`, `cpu/1`, … The first tells what they all are: QEMU makes no others.
pub(crate) fn cpus(qom: &mut Qom<'_>, nodes: &[Node]) -> Result<Vec<Component>, ReadError> {
    let mut cpus = Vec::new();
    for node in nodes.iter().filter(|node| node.kind.ends_with("-cpu")) {
        let index = qom.get(&node.path, "apic-id")?.as_ref().and_then(Value::as_i64).unwrap_or(0);
        let mut cpu = Component::new(format!("cpu/{index}"), rules::cpu_model(&node.kind));
        if !cpus.is_empty() {
            cpu.follows = Some("machine/vcpus".to_owned());
            cpus.push(cpu);
            continue;
        }
        let Some(names) = qom.properties_of(&node.kind)? else { continue };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let values = qom.get_all(&node.path, &names)?;
        let is_on = |value: &Value| value.as_bool() == Some(true);
        let mut features: Vec<Value> = Vec::new();
        for (name, value) in values {
            if is_on(&value) && rules::is_cpu_feature(&name) {
                features.push(name.into());
            } else if rules::CPU_IDENTITY.contains(&name.as_str()) {
                cpu.exact(&name, value).absent = None;
            }
        }
        features.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        let features = Attribute {
            value: Value::Array(features),
            policy: Policy::Subset,
            absent: None,
            follows: None,
        };
        cpu.attributes.insert("features".to_owned(), features);
        cpus.push(cpu);
    }
    Ok(cpus)
}
