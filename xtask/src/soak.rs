//! `cargo xtask soak`: the tests that take too long for every change, against an optimised build.

use anyhow::Result;

use crate::fuzz;
use crate::setup::{self, Build, nextest, packages};
use crate::step::{run as run_command, step};
use crate::test::{cargo, in_bed};

/// Every test marked `#[ignore = "soak: …"]`, then every fuzz target.
pub(crate) fn run() -> Result<()> {
    nextest::ensure()?;
    let bed = setup::ready(&packages::test(), Build::Release)?;
    step("soak tests", || {
        let soak = ["nextest", "run", "--locked", "--package", "bandsox-e2e"];
        run_command(in_bed(cargo(&soak).args(["--profile", "soak", "--run-ignored", "only"]), &bed))
    })?;
    fuzz::all(FUZZ_SECONDS)
}

/// How long each target is fuzzed.
const FUZZ_SECONDS: u32 = 600;
