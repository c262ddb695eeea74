//! What `demo`, `test`, `bench` and `soak` need on the machine, installed where it is missing.

pub(crate) mod nextest;
pub(crate) mod packages;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use bandsox_e2e::{Bed, workspace_root};

use crate::step::{note, run, step};

/// Which build of the program is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// `cargo build`: quick to make, and checks itself while it runs.
    Debug,
    /// `cargo build --release`: what users run.
    Release,
}

/// Installs Debian packages that are missing, makes the test bed, builds the program.
pub(crate) fn ready(packages: &[packages::Need], build: Build) -> Result<Bed> {
    packages::ensure(packages)?;
    let mut bed = step("test bed: kernel package, root file system", || {
        Bed::prepare(&|what| note(&format!("    {what}")))
    })?;
    bed.bandsox = step("building bandsox", || program(build))?;
    Ok(bed)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The first of `PATH`, and of where system programs are, that holds `program`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut dirs = env::split_paths(&path).chain(system);
    dirs.find_map(|dir| Some(dir.join(program)).filter(|candidate| candidate.is_file()))
}

fn program(build: Build) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["build", "--quiet", "--locked", "--bins"]);
    let profile = match build {
        // The same selection as the tests', or features differ and every dependency is built twice.
        Build::Debug => {
            command.args(["--workspace", "--exclude", "xtask", "--all-features"]);
            "debug"
        }
        Build::Release => {
            command.args(["--package", "bandsox", "--release"]);
            "release"
        }
    };
    run(command.current_dir(workspace_root()))?;
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(workspace_root().join(target).join(Path::new(profile)).join("bandsox"))
}
