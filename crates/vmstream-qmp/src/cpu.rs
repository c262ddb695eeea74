//! vCPUs: model, identity, features.

use serde_json::Value as Json;
use vmstream::Value;

use crate::part::Part;
use crate::qom::{Node, Qom, ReadError};
use crate::rules;

/// One part for each vCPU: `cpu/0`, `cpu/1`, … The first tells what they all are: QEMU makes no others.
pub(crate) fn cpus(qom: &mut Qom<'_>, nodes: &[Node]) -> Result<Vec<Part>, ReadError> {
    let mut found = Vec::new();
    for node in nodes.iter().filter(|node| node.kind.ends_with("-cpu")) {
        let id = qom.get(&node.path, "apic-id")?.as_ref().and_then(Json::as_u64).unwrap_or(0);
        found.push((id, node));
    }
    found.sort_by_key(|(id, _)| *id);
    let mut cpus: Vec<Part> = Vec::new();
    for (id, node) in found {
        let path = format!("cpu/{id}");
        let mut cpu = Part::device(&path, rules::cpu_model(&node.kind), "-cpu");
        if let Some(first) = cpus.first() {
            cpu.itself_follows("machine#vcpus");
            cpu.itself_follows(&format!("{}#device", first.path()));
        } else {
            describe(qom, node, &mut cpu)?;
        }
        cpus.push(cpu);
    }
    Ok(cpus)
}

fn describe(qom: &mut Qom<'_>, node: &Node, cpu: &mut Part) -> Result<(), ReadError> {
    let Some(names) = qom.properties_of(&node.kind)? else { return Ok(()) };
    let tells = |name: &&str| rules::is_cpu_feature(name) || rules::CPU_IDENTITY.contains(name);
    let told: Vec<&str> = names.iter().map(String::as_str).filter(tells).collect();
    let (of_vmx, others): (Vec<&str>, _) =
        told.into_iter().partition(|name| rules::is_of_vmx(name));
    let mut values = qom.get_all(&node.path, &others)?;
    // Every question takes QEMU a millisecond, and a CPU has a hundred and more of these.
    if values.get("vmx") != Some(&Json::Bool(false)) {
        values.extend(qom.get_all(&node.path, &of_vmx)?);
    }
    let mut features: Vec<String> = Vec::new();
    for (name, value) in values {
        if value.as_bool() == Some(true) && rules::is_cpu_feature(&name) {
            features.push(name);
        } else if rules::CPU_IDENTITY.contains(&name.as_str())
            && let Some(identity) = cpu.exact(&name, &value)
        {
            identity.absent = None;
        }
    }
    features.sort();
    let features = cpu.subset("features", features.into_iter().map(Value::from).collect());
    // Several in one package have a feature that says so.
    features.follows.push("machine#vcpus".to_owned());
    Ok(())
}
