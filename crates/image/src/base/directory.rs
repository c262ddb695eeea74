//! A directory of the host, straight into an image.
//!
//! The walk opens every directory relative to its parent and follows no links, so that whoever owns the directory cannot
//! lead it elsewhere. It stays on one file system: what is mounted below appears as an empty directory.

mod contents;
mod walk;

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use bandsox_erofs::{Builder, Timestamp};
use sha2::{Digest as _, Sha256};

use super::add::AddError;
use crate::digest;

/// Why a directory could not become an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file or directory in it cannot be read.
    #[error("could not read {path}")]
    Unreadable {
        /// Its path, relative to the directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file cannot be stored.
    #[error(transparent)]
    Add(#[from] AddError),
}

/// What a directory looks like from outside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Hex SHA-256 over name, place, kind, owner, size and times of everything in it.
    pub(super) digest: String,
    /// The latest change in it.
    pub(super) newest: Timestamp,
}

/// Takes the fingerprint of the directory `root`: one walk, no file opened.
///
/// Whatever is written, renamed, or given another owner or attribute changes a change time, and with it the fingerprint.
pub(super) fn fingerprint(root: BorrowedFd<'_>) -> Result<Fingerprint, DirectoryError> {
    let mut hasher = Sha256::new();
    let mut newest = Timestamp::default();
    walk::walk(root, &mut |step| {
        let walk::Step::Entry(entry) = step else {
            return Ok(());
        };
        let stat = &entry.stat;
        let name = entry.path.as_os_str().as_encoded_bytes();
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        for number in [stat.st_dev, stat.st_ino, stat.st_nlink, stat.st_rdev] {
            hasher.update(number.to_le_bytes());
        }
        for number in [stat.st_mode, stat.st_uid, stat.st_gid] {
            hasher.update(number.to_le_bytes());
        }
        for number in [stat.st_size, stat.st_mtime, stat.st_ctime] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(stat.st_mtime_nsec.to_le_bytes());
        hasher.update(stat.st_ctime_nsec.to_le_bytes());
        newest = newest.max(Timestamp {
            seconds: stat.st_ctime,
            nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or_default(),
        });
        Ok(())
    })?;
    Ok(Fingerprint { digest: digest::hex(&hasher.finalize()), newest })
}

/// Adds everything in the directory `root`.
pub(super) fn add(builder: &mut Builder, root: BorrowedFd<'_>) -> Result<(), DirectoryError> {
    contents::add(builder, root)
}

fn unreadable(path: &std::path::Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = if path.as_os_str().is_empty() {
        PathBuf::from(OsString::from("."))
    } else {
        path.to_owned()
    };
    move |source| DirectoryError::Unreadable { path, source }
}
