//! What do streams cost, in bytes, time and memory?
//!
//! Of a real guest of 256 MiB on each QEMU: what our stream of it takes besides pages, and how long state takes from records
//! to bytes and back, in memory. Of 1 GiB of made-up RAM (a quarter zeros, half of it program text, a quarter noise, in
//! runs of 64 KiB): writing and reading it, from file to file, against `cp` of the same bytes to the same place; nobody
//! syncs, files are in the page cache. Of a stream of QEMU's: the whole command `vmstream tree` against QEMU's own script,
//! which is fetched from Debian's sources. What is compared takes turns; times are medians.
//! Of our reader and QEMU's: how many broken streams they refuse, and what they and the commands take at their peaks.
//!
//! Of a guest that moves within this host: total time, downtime and processor time, through `vmstream bridge` and from QEMU
//! to QEMU, both with the return path, at equal `max-bandwidth`. All processes share the host's processors.

mod analyser;
mod bridge;
mod captured;
mod hostile;
mod memory;
mod peaks;
mod script;
mod state;

#[path = "../../../../crates/vmstream-qemu/tests/it/bed/mod.rs"]
#[expect(dead_code, unused_imports, reason = "tests use the rest of it")]
mod bed;

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use bandsox_e2e::workspace_root;

use self::captured::Captured;
use super::report::Report;

pub(super) use hostile::{READER, read as read_hostile};

/// What QEMU wrote, as ours: how large the state is, how fast all is shown, what is refused.
pub(super) fn state(report: &mut Report) -> Result<()> {
    let (tool, scratch, bed) = (tool()?, scratch()?, bed::Bed::get());
    let old = Captured::new(&bed.old, scratch.path())?;
    let new = Captured::new(&bed.new, scratch.path())?;
    state::run(&old, report)?;
    analyser::run(&tool, &[&old, &new], report)?;
    hostile::run(&old, report)
}

/// Memory in files, and what the program needs of its own.
pub(super) fn memory(report: &mut Report) -> Result<()> {
    let (tool, scratch) = (tool()?, scratch()?);
    let captured = Captured::new(&bed::Bed::get().old, scratch.path())?;
    let files = memory::run(&tool, &captured, scratch.path(), report)?;
    peaks::run(&tool, &files, &captured, report)
}

/// Guests that move while they run.
pub(super) fn bridge(report: &mut Report) -> Result<()> {
    bridge::run(&tool()?, report)
}

/// The program, optimised.
fn tool() -> Result<PathBuf> {
    let mut build = std::process::Command::new(crate::setup::cargo());
    build.args(["build", "--quiet", "--locked", "--release", "--package", "vmstream-tool"]);
    crate::step::run(build.current_dir(workspace_root()))?;
    Ok(target().join("release/vmstream"))
}

/// Where everything is written that is measured: one file system, a real one.
fn scratch() -> Result<tempfile::TempDir> {
    let dir = target().join("tmp");
    std::fs::create_dir_all(&dir)?;
    Ok(tempfile::tempdir_in(dir)?)
}

fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace_root().join(target)
}
