//! Dependencies point strictly down.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::test::cargo;

pub(super) fn faults() -> Result<Vec<String>> {
    let out = cargo(&["metadata", "--no-deps", "--format-version=1"]).output()?;
    ensure!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    let meta: Value =
        serde_json::from_slice(&out.stdout).context("cargo metadata wrote no JSON")?;
    Ok(upward_dependencies(&meta))
}

/// Every normal dependency that does not point to a strictly lower layer.
///
/// A member states its layer in `[package.metadata.bandsox] layer = N`; one that does not is itself a fault.
fn upward_dependencies(meta: &Value) -> Vec<String> {
    let packages = meta["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let layer_of: BTreeMap<_, _> = packages
        .iter()
        .filter_map(|package| {
            Some((package["name"].as_str()?, package["metadata"]["bandsox"]["layer"].as_u64()))
        })
        .collect();
    packages.iter().flat_map(|package| faults_of(package, &layer_of)).collect()
}

fn faults_of(package: &Value, layer_of: &BTreeMap<&str, Option<u64>>) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(layer) = layer_of.get(name).copied().flatten() else {
        return vec![format!("{name} does not state its layer")];
    };
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
    normal
        .filter_map(|on| {
            let on = on["name"].as_str()?;
            let below = layer_of.get(on).copied().flatten()?;
            (below >= layer)
                .then(|| format!("{name} (layer {layer}) depends on {on} (layer {below})"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, layer: Option<u64>, on: &[&str]) -> Value {
        let dependencies: Vec<_> =
            on.iter().map(|name| serde_json::json!({ "name": name, "kind": null })).collect();
        let layer = layer.map(|layer| serde_json::json!({ "bandsox": { "layer": layer } }));
        serde_json::json!({ "name": name, "metadata": layer, "dependencies": dependencies })
    }

    #[test]
    fn a_dependency_on_the_same_layer_is_a_fault() {
        let meta = serde_json::json!({ "packages": [
            package("low", Some(1), &["serde"]),
            package("left", Some(2), &["low", "right"]),
            package("right", Some(2), &[]),
        ]});

        assert_eq!(upward_dependencies(&meta), ["left (layer 2) depends on right (layer 2)"]);
    }

    #[test]
    fn a_package_without_a_layer_is_a_fault() {
        let meta = serde_json::json!({ "packages": [package("lost", None, &[])] });

        assert_eq!(upward_dependencies(&meta), ["lost does not state its layer"]);
    }
}
