//! cargo-nextest, the test runner.

use std::process::Command;

use anyhow::Result;

use super::{cargo, find};
use crate::step::{run, step};

/// Installs it with cargo where it is missing.
pub(crate) fn ensure() -> Result<()> {
    if find("cargo-nextest").is_some() {
        return Ok(());
    }
    step("installing cargo-nextest from its source (some minutes, once)", || {
        run(Command::new(cargo()).args(["install", "--quiet", "--locked", "cargo-nextest"]))
    })
}
