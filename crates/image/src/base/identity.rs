//! By what a base is recognised again.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest;

/// What is remembered of a base, as it goes into a VM's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Device number of the file system that holds it. Only informative: device numbers change over a reboot.
    pub dev: u64,
    /// Inode number. Only informative: a restored backup has another one.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Hex SHA-256 of the first 64 KiB: superblock and, for ext4, the group descriptors, which any change to the file
    /// system's allocation or a single mount for writing changes.
    pub head_sha256: String,
}

/// A base is not the one that a VM was created from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "base image {path} changed since the VM was created: its {what} was {recorded} and is {found}; restore it, or create the VM again"
)]
pub struct ChangedError {
    /// The base.
    pub path: PathBuf,
    /// What differs.
    pub what: &'static str,
    /// Its recorded value.
    pub recorded: String,
    /// Its present value.
    pub found: String,
}

impl Identity {
    /// Takes the identity of an open file.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says to `fstat` or a read.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mtime_ns = metadata
            .mtime()
            .checked_mul(1_000_000_000)
            .and_then(|ns| ns.checked_add(metadata.mtime_nsec()))
            .unwrap_or(i64::MAX);
        let head = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(HEAD_BYTES);
        let mut bytes = vec![0; head];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            mtime_ns,
            head_sha256: digest::of_bytes(&bytes),
        })
    }

    pub(super) fn verify_unchanged(
        &self,
        recorded: &Self,
        path: &Path,
    ) -> Result<(), ChangedError> {
        let Self { dev: _, ino: _, size, mtime_ns, head_sha256 } = self;
        let changed = |what, recorded: &dyn ToString, found: &dyn ToString| ChangedError {
            path: path.to_owned(),
            what,
            recorded: recorded.to_string(),
            found: found.to_string(),
        };
        if *size != recorded.size {
            return Err(changed("size in bytes", &recorded.size, size));
        }
        if *head_sha256 != recorded.head_sha256 {
            return Err(changed("superblock digest", &recorded.head_sha256, head_sha256));
        }
        if *mtime_ns != recorded.mtime_ns {
            return Err(changed("modification time in ns", &recorded.mtime_ns, mtime_ns));
        }
        Ok(())
    }
}

const HEAD_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn identity_of(path: &Path) -> Identity {
        Identity::of(&File::open(path).expect("opens")).expect("identifies")
    }

    #[test]
    fn an_untouched_file_keeps_its_identity_and_survives_json() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("base");
        fs::write(&path, vec![1; 100_000]).expect("writes");

        let recorded = serde_json::to_string(&identity_of(&path)).expect("serializes");
        let recorded: Identity = serde_json::from_str(&recorded).expect("parses");

        assert_eq!(identity_of(&path).verify_unchanged(&recorded, &path), Ok(()));
    }

    #[test]
    fn a_touched_a_grown_and_a_patched_file_are_refused_each_by_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("base");
        fs::write(&path, vec![1; 100_000]).expect("writes");
        let recorded = identity_of(&path);
        let refusal =
            || identity_of(&path).verify_unchanged(&recorded, &path).expect_err("it changed").what;

        fs::write(&path, vec![1; 100_001]).expect("writes");
        assert_eq!(refusal(), "size in bytes");
        fs::write(&path, vec![2; 100_000]).expect("writes");
        assert_eq!(refusal(), "superblock digest");
        fs::write(&path, vec![1; 100_000]).expect("writes");
        assert_eq!(refusal(), "modification time in ns");
    }
}
