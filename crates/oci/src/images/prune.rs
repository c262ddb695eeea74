//! Taking away what no image has.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bandsox_image::base::forget_lost_images;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::{InUse, allocated};
use crate::atomic::{self, TEMP_PREFIX};
use crate::digest::Digest;
use crate::lock::{self, LockError};
use crate::record::Record;
use crate::store::ImageStore;

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Each file.
    pub items: Vec<PrunedItem>,
}

/// A file that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedItem {
    /// What it was.
    pub kind: PrunedKind,
    /// Where it was.
    pub path: PathBuf,
    /// What it took. Unit: bytes.
    pub bytes: u64,
}

/// What can be nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PrunedKind {
    /// A layer, config or manifest that no image has.
    Blob,
    /// The beginning of a download that nobody goes on with.
    Partial,
    /// A base image that no image and no VM has.
    Base,
    /// A record that cannot be read.
    Record,
    /// A note of what a base image that is not there was made of.
    Hint,
    /// The rest of an interrupted write.
    Temporary,
}

/// Why nothing, or not everything, was taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The images cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file cannot be read or deleted.
    #[error("could not look at or remove {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Pruned {
    /// Room that was freed. Unit: bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).fold(0, u64::saturating_add)
    }

    fn take(&mut self, kind: PrunedKind, path: PathBuf) -> Result<(), PruneError> {
        let bytes = allocated(&path);
        match atomic::delete(&path) {
            Ok(()) => {
                self.items.push(PrunedItem { kind, path, bytes });
                Ok(())
            }
            Err(source) => Err(PruneError::File { path, source }),
        }
    }
}

impl ImageStore {
    /// Removes what no image has: blobs, downloads that nobody goes on with, and base images that no VM uses either.
    ///
    /// # Errors
    ///
    /// [`PruneError`]; what was removed by then stays so.
    pub fn prune(&self, in_use: &InUse<'_>) -> Result<Pruned, PruneError> {
        let _alone = lock::exclusive(self.dir())?;
        let mut pruned = Pruned::default();
        let error = |source| PruneError::File { path: self.records.dir().to_owned(), source };
        let all = self.records.all().map_err(error)?;
        for path in all.damaged {
            pruned.take(PrunedKind::Record, path)?;
        }
        let kept: BTreeSet<&Digest> = all.whole.iter().flat_map(Record::blobs).collect();
        let bases: BTreeSet<&str> = all.whole.iter().map(|record| record.base.as_str()).collect();
        for (name, path) in names(&self.blobs.whole_dir())? {
            if is_temporary(&name) {
                pruned.take(PrunedKind::Temporary, path)?;
            } else if !Digest::from_hex(&name).is_ok_and(|digest| kept.contains(&digest)) {
                pruned.take(PrunedKind::Blob, path)?;
            }
        }
        for (name, path) in names(&self.blobs.partial_dir())? {
            if is_temporary(&name) {
                pruned.take(PrunedKind::Temporary, path)?;
            } else if is_free(&path) {
                pruned.take(PrunedKind::Partial, path)?;
            }
        }
        for (name, path) in names(self.records.dir())? {
            if is_temporary(&name) {
                pruned.take(PrunedKind::Temporary, path)?;
            }
        }
        for (name, path) in names(self.dir())? {
            if is_temporary(&name) {
                pruned.take(PrunedKind::Temporary, path)?;
            } else if is_base(&name)
                && !bases.contains(name.as_str())
                && in_use(&path, &[]).is_empty()
            {
                pruned.take(PrunedKind::Base, path)?;
            }
        }
        let dir_error = |source| PruneError::File { path: self.dir().to_owned(), source };
        for path in forget_lost_images(self.dir()).map_err(dir_error)? {
            pruned.items.push(PrunedItem { kind: PrunedKind::Hint, path, bytes: 0 });
        }
        Ok(pruned)
    }
}

fn names(dir: &Path) -> Result<Vec<(String, PathBuf)>, PruneError> {
    let read = || {
        let entries = fs::read_dir(dir)?.map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
        });
        entries.collect::<io::Result<Vec<_>>>()
    };
    let mut names = read().map_err(|source| PruneError::File { path: dir.to_owned(), source })?;
    names.sort();
    Ok(names)
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMP_PREFIX)
}

/// Whether nobody writes to a partial download.
fn is_free(path: &Path) -> bool {
    File::open(path)
        .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// `<64 hex digits>.erofs` or `.ext4`; nothing else in the directory is ours to judge.
fn is_base(name: &str) -> bool {
    let stem = name.strip_suffix(".erofs").or_else(|| name.strip_suffix(".ext4"));
    stem.is_some_and(|stem| Digest::from_hex(stem).is_ok())
}
