//! The two devices, each as a process.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use bandsox_e2e::workspace_root;

use crate::setup;
use crate::step;

const THEIR_NAME: &str = "vhost-device-vsock";
const THEIR_VERSION: &str = "0.3.0";

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The example program `vsock-device` of `bandsox-qemu`.
    Ours,
    /// `vhost-device-vsock`.
    Theirs,
}

/// Starts a device that waits for QEMU on `dir/vhost-user` and for clients on `dir/vsock.sock`.
pub(super) fn start(kind: Kind, cid: u32, dir: &Path) -> Result<Child> {
    let (vhost_user, clients) = (dir.join("vhost-user"), dir.join("vsock.sock"));
    let mut command = match kind {
        Kind::Ours => {
            let mut command = Command::new(ours()?);
            command.arg(cid.to_string()).arg(&vhost_user).arg(&clients);
            command
        }
        Kind::Theirs => {
            let mut command = Command::new(theirs()?);
            command.arg("--vm").arg(format!(
                "guest-cid={cid},socket={},uds-path={}",
                vhost_user.display(),
                clients.display()
            ));
            command
        }
    };
    // Ours ends with its standard input.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("cannot run {}", step::spell(&command)))
}

/// Processor time that all threads of a process have used so far.
pub(super) fn cpu_seconds(process: &Child) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{}/task", process.id()))? {
        // Source: Linux, Documentation/scheduler/sched-stats.rst: the first number is time on the processor.
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("schedstat is empty")?;
        nanoseconds += first.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

fn ours() -> Result<PathBuf> {
    step::run(
        Command::new(setup::cargo())
            .args(["build", "--quiet", "--release", "--package", "bandsox-qemu"])
            .args(["--example", "vsock-device"])
            .current_dir(workspace_root()),
    )?;
    Ok(target_dir().join("release/examples/vsock-device"))
}

/// Installed once, below the target directory.
fn theirs() -> Result<PathBuf> {
    if let Some(given) = env::var_os("BANDSOX_VHOST_DEVICE_VSOCK") {
        return Ok(given.into());
    }
    if let Some(found) = setup::find(THEIR_NAME) {
        return Ok(found);
    }
    let root = target_dir().join("testbed/tools");
    let program = root.join("bin").join(THEIR_NAME);
    if !program.is_file() {
        step::run(
            Command::new(setup::cargo())
                .args(["install", "--quiet", "--locked", THEIR_NAME, "--version", THEIR_VERSION])
                .arg("--root")
                .arg(&root)
                .env("CARGO_TARGET_DIR", target_dir().join("testbed/build")),
        )?;
    }
    ensure!(program.is_file(), "cargo installed no {}", program.display());
    Ok(program)
}

pub(super) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), |dir| workspace_root().join(dir))
}
