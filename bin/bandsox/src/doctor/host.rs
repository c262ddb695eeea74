//! The programs and devices that running a VM takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use bandsox_engine::{probe_kvm, select};
use bandsox_qemu::QemuInstall;
use bandsox_spec::EngineChoice;

use super::{Finding, told};
use crate::output::human_bytes;

/// Free memory below which a VM of ordinary size gets the host into trouble.
const LITTLE_MEMORY: u64 = 768 << 20;

pub(super) fn examine() -> Vec<Finding> {
    vec![mke2fs(), qemu(), engine(), memory()]
}

fn mke2fs() -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // As an ordinary user's PATH often lacks them.
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(usual)
        .map(|dir| dir.join("mke2fs"))
        .find(|program| program.is_file());
    match found {
        Some(program) => Finding::ok("mke2fs", program.display().to_string()),
        None => Finding::fail("mke2fs", "not installed", "apt-get install e2fsprogs"),
    }
}

fn qemu() -> Finding {
    let install = match QemuInstall::find(None) {
        Ok(install) => install,
        Err(error) => {
            let remedy = "apt-get install qemu-system-x86 qemu-system-data seabios";
            return Finding::fail("qemu", told(error), remedy);
        }
    };
    match version(&install.program) {
        Some(version) => Finding::ok("qemu", format!("{version} ({})", install.program.display())),
        None => Finding::fail(
            "qemu",
            format!("{} does not run", install.program.display()),
            "install it again: apt-get install --reinstall qemu-system-x86",
        ),
    }
}

/// What the program says of itself: `7.2.9` of `QEMU emulator version 7.2.9 (Debian …)`.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("version ").nth(1)?.split_whitespace().next()?;
    output.status.success().then(|| version.to_owned())
}

fn engine() -> Finding {
    let kvm = probe_kvm();
    let reason = &kvm.reason;
    match select(EngineChoice::Auto, &kvm) {
        Ok(accelerator) if kvm.usable => {
            Finding::ok("engine", format!("qemu with {accelerator}: KVM works ({reason})"))
        }
        Ok(accelerator) if kvm.available => Finding::ok(
            "engine",
            format!("qemu with {accelerator}: /dev/kvm opens and cannot run a guest ({reason})"),
        ),
        Ok(accelerator) => {
            Finding::ok("engine", format!("qemu with {accelerator}, in software: {reason}"))
        }
        Err(error) => Finding::fail("engine", told(error), "install QEMU"),
    }
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let Some(available) = kib.map(|kib| kib.saturating_mul(1024)) else {
        return Finding::warn("memory", "cannot be told", "look with free");
    };
    let found = format!("{} available", human_bytes(available));
    if available < LITTLE_MEMORY {
        Finding::warn("memory", found, "stop something, or create VMs with less --mem")
    } else {
        Finding::ok("memory", found)
    }
}
