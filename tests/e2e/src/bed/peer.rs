//! `vsock-peer`, built static so that it runs in any guest.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{testbed_dir, tool, workspace_root};

const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(super) fn build(say: &dyn Fn(&str)) -> Result<PathBuf> {
    // A directory of its own: a test that builds it must not wait for the cargo that runs the tests.
    let target = testbed_dir().join("build");
    let built = target.join(TARGET).join("release/vsock-peer");
    if built.is_file() && env::var_os("NEXTEST").is_some() {
        return Ok(built);
    }
    say("building vsock-peer for the guest");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    tool(
        Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--release",
                "--package",
                "bandsox-e2e",
                "--bin",
                "vsock-peer",
            ])
            .args(["--target", TARGET])
            .current_dir(workspace_root())
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols"),
    )?;
    ensure!(built.is_file(), "cargo built no {}", built.display());
    Ok(built)
}
