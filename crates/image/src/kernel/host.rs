//! The host's own kernel, if it has one whose modules are here too.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel and its modules on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kernel: PathBuf,
    pub(super) modules: PathBuf,
}

/// The newest version below `root` that has both a kernel image and modules.
///
/// Debian and Ubuntu keep the image in `/boot`, Fedora and Arch (also) beside the modules.
pub(super) fn newest_in(root: &Path) -> Option<Found> {
    let mut candidates = Vec::new();
    for modules in ["lib/modules", "usr/lib/modules"] {
        let Ok(entries) = fs::read_dir(root.join(modules)) else {
            continue;
        };
        for entry in entries.flatten() {
            let Some(version) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let images =
                [root.join(format!("boot/vmlinuz-{version}")), entry.path().join("vmlinuz")];
            if let Some(kernel) = images.into_iter().find(|image| image.exists()) {
                candidates.push((version, Found { kernel, modules: entry.path() }));
            }
        }
    }
    candidates.into_iter().max_by(|(a, _), (b, _)| compare_versions(a, b)).map(|(_, found)| found)
}

/// Orders `6.9.1` before `6.10.0`: runs of digits by value, the rest by bytes.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let key = |version: &str| -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        let mut rest = version;
        while !rest.is_empty() {
            let text_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (text, after) = rest.split_at(text_end);
            let digits_end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let (digits, after) = after.split_at(digits_end);
            parts.push((digits.parse().unwrap_or(u64::MAX), text.to_owned()));
            rest = after;
        }
        parts
    };
    key(a).cmp(&key(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_with_modules_is_taken() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(root.path().join("boot")).expect("creates");
        for version in ["6.9.1-amd64", "6.10.0-amd64", "6.11.0-amd64"] {
            fs::create_dir_all(root.path().join("lib/modules").join(version)).expect("creates");
        }
        for version in ["6.9.1-amd64", "6.10.0-amd64", "6.12.0-amd64"] {
            fs::write(root.path().join("boot").join(format!("vmlinuz-{version}")), b"")
                .expect("writes");
        }

        let found = newest_in(root.path()).expect("two have both");

        assert_eq!(found.kernel, root.path().join("boot/vmlinuz-6.10.0-amd64"));
        assert_eq!(found.modules, root.path().join("lib/modules/6.10.0-amd64"));
    }

    #[test]
    fn a_host_without_kernels_has_none() {
        let root = tempfile::tempdir().expect("a temporary directory");

        assert_eq!(newest_in(root.path()), None);
    }
}
