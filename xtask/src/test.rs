//! `cargo xtask test`: what a change must pass, in one command on a fresh machine.

use std::env;
use std::process::Command;

use anyhow::Result;
use bandsox_e2e::{Bed, workspace_root};

use crate::check;
use crate::fuzz;
use crate::setup::{self, Build, nextest, packages};
use crate::step::{run as run_command, step};

/// Set-up, then everything from the quickest to the slowest.
pub(crate) fn run() -> Result<()> {
    packages::ensure(&packages::test())?;
    nextest::ensure()?;
    step("formatting", || run_command(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("checks of the repository", check::run)?;
    step("clippy", || {
        let clippy = ["clippy", "--quiet", "--locked", "--workspace", "--all-targets"];
        run_command(cargo(&clippy).args(["--all-features", "--", "-D", "warnings"]))
    })?;
    step("documentation", || {
        let doc = ["doc", "--quiet", "--locked", "--workspace", "--all-features", "--no-deps"];
        let warnings = "-D warnings -A rustdoc::private-intra-doc-links";
        run_command(cargo(&doc).arg("--document-private-items").env("RUSTDOCFLAGS", warnings))
    })?;
    let bed = setup::ready(&[], Build::Debug)?;
    step("tests", || {
        let nextest = ["nextest", "run", "--locked", "--workspace", "--all-features"];
        let mut tests = cargo(&nextest);
        if env::var_os(PROPERTY_SEED).is_none() {
            tests.env(PROPERTY_SEED, "1");
        }
        run_command(in_bed(&mut tests, &bed))
    })?;
    fuzz::all(FUZZ_SECONDS)?;
    step("examples in the documentation", || {
        let doc = ["test", "--quiet", "--locked", "--workspace", "--all-features", "--doc"];
        run_command(&mut cargo(&doc))
    })
}

/// Property tests have the same cases each time: what fails here is the change's fault. New cases are for whoever runs them
/// without it.
const PROPERTY_SEED: &str = "PROPTEST_RNG_SEED";

/// How long each target is fuzzed for every change: enough for what is easily broken.
const FUZZ_SECONDS: u32 = 8;

/// `cargo WORDS` at the root of the work tree.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(setup::cargo());
    command.args(words).current_dir(workspace_root());
    command
}

/// Tells tests where the pieces of the bed are.
pub(crate) fn in_bed<'a>(command: &'a mut Command, bed: &Bed) -> &'a mut Command {
    command
        .env("BANDSOX_TEST_KERNEL_DEB", &bed.kernel_deb)
        .env("BANDSOX_TEST_ROOTFS", &bed.rootfs)
        .env("BANDSOX_TEST_BIN", &bed.bandsox)
}
