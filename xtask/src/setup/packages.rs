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

/// What it takes to make container images, and a registry for them.
const IMAGES: &[Need] = &[
    need("docker-registry", "docker-registry"),
    need("mmdebstrap", "mmdebstrap"),
    need("skopeo", "skopeo"),
    need("umoci", "umoci"),
];

/// What takes archives apart, to make the twin of a VM and to check our own.
const CPIO: &[Need] = &[need("cpio", "cpio")];

/// What only tests run besides, to check our file formats by other people's programs.
const CHECKS: &[Need] = &[
    need("fsck.erofs", "erofs-utils"),
    need("openssl", "openssl"),
    need("setpriv", "util-linux"),
    need("xz", "xz-utils"),
    need("socat", "socat"),
    need("strace", "strace"),
    need("zstd", "zstd"),
    need("python3", "python3"),
    need("jsonschema", "python3-jsonschema"),
    // A library without a program: found by its file.
    need("/usr/lib/python3/dist-packages/cbor2/__init__.py", "python3-cbor2"),
];

/// Everything that tests run.
pub(crate) fn test() -> Vec<Need> {
    [RUN, IMAGES, CPIO, CHECKS, FUZZ].concat()
}

/// Everything that benchmarks run.
#[cfg(feature = "bench")]
pub(crate) fn bench() -> Vec<Need> {
    [RUN, IMAGES, CPIO].concat()
}

/// What the benchmarks of streams run: another program that takes streams apart, and what measures programs.
#[cfg(feature = "bench")]
pub(crate) const STREAMS: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86"),
    need("busybox", "busybox-static"),
    need("python3", "python3"),
    need("strace", "strace"),
    need("/usr/bin/time", "time"),
    need("xz", "xz-utils"),
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
