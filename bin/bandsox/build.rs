//! Builds the guest agent, static, and hands its path to `src/agent.rs`, which embeds it.
//!
//! The agent is built by a cargo of its own with a target directory of its own: the outer cargo
//! holds the lock of the usual one while this script runs. That directory is shared by all
//! profiles, so that `cargo build`, `clippy` and `build --release` build the agent once.
//! `BANDSOX_AGENT=PATH` embeds a ready-made agent instead.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Settings of the outer cargo that must not reach the inner one: compiler flags and wrappers
/// (coverage, clippy) would make a different agent, or none, and a shared target directory would
/// wait for a lock that the outer cargo holds.
const NOT_INHERITED: [&str; 8] = [
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_UNSTABLE_BUILD_STD",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=BANDSOX_AGENT");
    let out = PathBuf::from(required("OUT_DIR")?);
    let agent = match env::var_os("BANDSOX_AGENT") {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            path
        }
        None => build_agent(&out)?,
    };
    let embedded = out.join("bandsox-agent");
    fs::copy(&agent, &embedded)
        .map_err(|error| format!("cannot copy the agent {}: {error}", agent.display()))?;
    println!("cargo::rustc-env=BANDSOX_EMBEDDED_AGENT={}", embedded.display());
    Ok(())
}

fn build_agent(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let workspace = workspace_root()?;
    let triple = required("TARGET")?.into_string().map_err(|_| "TARGET is not UTF-8")?;
    let target_dir = agent_target_dir(out);

    let mut cargo = Command::new(required("CARGO")?);
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--package", "bandsox-agent", "--bin", "bandsox-agent"])
        .args(["--profile", "agent", "--target", &triple, "--target-dir"])
        .arg(&target_dir);
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    // With an explicit --target these flags reach the agent alone, not build scripts or macros.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status()?;
    if !status.success() {
        rerun_if_sources_change(&workspace, None)?;
        return Err(format!("building bandsox-agent failed: {status}").into());
    }
    let binary = target_dir.join(&triple).join("agent/bandsox-agent");
    rerun_if_sources_change(&workspace, Some(&binary.with_extension("d")))?;
    Ok(binary)
}

/// Says what the agent is made of: the files that the compiler says it read, and their packages'
/// manifests; or, where it did not get that far, the folders that they come from.
fn rerun_if_sources_change(
    workspace: &Path,
    dep_info: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    let mut inputs = BTreeSet::from([workspace.join("Cargo.toml"), workspace.join("Cargo.lock")]);
    match dep_info {
        Some(path) => {
            for source in sources(&fs::read_to_string(path)?) {
                inputs.extend(manifest_of(&source));
                inputs.insert(source);
            }
        }
        None => inputs.extend(["bin/bandsox-agent", "crates"].map(|dir| workspace.join(dir))),
    }
    for input in inputs {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    Ok(())
}

fn manifest_of(source: &Path) -> Option<PathBuf> {
    source.ancestors().map(|dir| dir.join("Cargo.toml")).find(|manifest| manifest.exists())
}

/// The right-hand side of a Makefile-style dependency file; spaces in names are escaped by `\ `.
fn sources(dep_info: &str) -> Vec<PathBuf> {
    let Some((_, names)) = dep_info.split_once(": ") else { return Vec::new() };
    names
        .lines()
        .next()
        .unwrap_or_default()
        .replace("\\ ", "\0")
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(name.replace('\0', " ")))
        .collect()
}

/// `<target>/agent-build`, beside the profiles' folders; below `OUT_DIR` if the layout is unknown.
fn agent_target_dir(out: &Path) -> PathBuf {
    out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).unwrap_or(out).join("agent-build")
}

fn workspace_root() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    let root = manifest.ancestors().nth(2).ok_or("this crate is not at bin/bandsox")?;
    Ok(root.to_path_buf())
}

fn required(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; cargo sets it"))
}
