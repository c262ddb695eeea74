//! The Debian cloud kernel: a package downloaded once, never installed.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tool;

/// A machine-wide cache: whoever sets machines up may put the package here.
const SYSTEM_CACHE: &str = "/var/cache/bandsox";

/// Package whose newest dependency is the kernel of this Debian release.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

pub(super) fn find_or_fetch(dir: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    if let Some(given) = env::var_os("BANDSOX_TEST_KERNEL_DEB") {
        return Ok(PathBuf::from(given));
    }
    if let Some(found) = [dir, Path::new(SYSTEM_CACHE)].into_iter().find_map(kernel_in) {
        return Ok(found);
    }
    let package = package_name()?;
    say(&format!("downloading {package} (27 MB)"));
    tool(Command::new("apt-get").args(["download", "-q", &package]).current_dir(dir))?;
    kernel_in(dir).with_context(|| format!("apt-get left no package of {package}"))
}

fn kernel_in(dir: &Path) -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new("deb")))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("linux-image-"))
        })
        .collect();
    found.sort();
    found.pop()
}

fn package_name() -> Result<String> {
    let listed = tool(Command::new("apt-cache").args(["depends", "--important", META_PACKAGE]))
        .with_context(|| format!("apt knows no {META_PACKAGE}; run `apt-get update` first"))?;
    let listed = String::from_utf8(listed)?;
    listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| format!("{META_PACKAGE} depends on no kernel; run `apt-get update` first"))
}
