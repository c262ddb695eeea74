//! Debian packages, by the programs that are looked for.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::find;
use crate::step::{note, run, step};

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    program: &'static str,
    package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// What it takes to run a VM and to make a small root file system.
pub(crate) const RUN: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86"),
    need("mke2fs", "e2fsprogs"),
    need("busybox", "busybox-static"),
    need("cc", "gcc"),
];

/// What benchmarks run besides, to make the twin of a VM and images of a registry.
#[cfg(feature = "bench")]
pub(crate) const BENCH: &[Need] = &[
    need("cpio", "cpio"),
    need("docker-registry", "docker-registry"),
    need("mmdebstrap", "mmdebstrap"),
    need("skopeo", "skopeo"),
    need("umoci", "umoci"),
];

/// What tests run besides, to check our file formats by other people's programs.
pub(crate) const TEST: &[Need] = &[
    need("fsck.erofs", "erofs-utils"),
    need("cpio", "cpio"),
    need("setpriv", "util-linux"),
    need("xz", "xz-utils"),
    need("socat", "socat"),
    need("strace", "strace"),
    need("docker-registry", "docker-registry"),
    need("mmdebstrap", "mmdebstrap"),
    need("skopeo", "skopeo"),
    need("umoci", "umoci"),
    need("zstd", "zstd"),
    FUZZ[0],
];

/// What libFuzzer is built with.
pub(crate) const FUZZ: &[Need] = &[need("g++", "g++")];

/// Installs those that are missing; does nothing, and needs no privilege, when none is.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> =
        needs.iter().filter(|need| find(need.program).is_none()).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    ensure!(
        find("apt-get").is_some(),
        "missing: {names}. This installs Debian packages only; please install them by other means"
    );
    step(&format!("installing {names}"), || {
        apt(&["update", "-q"])?;
        apt(&[&["install", "-q", "-y", "--no-install-recommends"], missing.as_slice()].concat())
    })?;
    let still = needs.iter().find(|need| find(need.program).is_none());
    match still {
        Some(need) => {
            anyhow::bail!("{} is installed, and {} is not there", need.package, need.program)
        }
        None => Ok(()),
    }
}

fn apt(words: &[&str]) -> Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        find("sudo").context("installing packages needs root; run as root, or install sudo")?;
        let mut sudo = Command::new("sudo");
        // Without a password at hand it fails at once instead of asking nobody.
        sudo.args(["-n", "apt-get"]);
        sudo
    };
    command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command)
        .inspect_err(|_| note("as root, this does the same: apt-get update && apt-get install …"))
}
