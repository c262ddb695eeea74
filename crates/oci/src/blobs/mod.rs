//! Content by its digest: `blobs/sha256/<hex>`, and `blobs/partial/<hex>` while it arrives.
//!
//! A file below `sha256/` has been verified before it got its name, and is never written again.

mod fetch;
mod partial;

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub use fetch::{FetchError, Patience};
pub(crate) use fetch::{Job, Origin, Piece, fetch};
pub(crate) use partial::{Partial, Slot};

use crate::atomic;
use crate::cancel::Cancel;
use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;

/// The content-addressed part of the store.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    dir: PathBuf,
}

/// What [`Blobs::take`] stored; its media type is left to the caller.
pub(crate) struct Stored {
    pub(crate) descriptor: Descriptor,
    /// It was not there before.
    pub(crate) new: bool,
}

impl Blobs {
    /// The blobs below `dir`, which is made if need be.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        let blobs = Self { dir };
        atomic::ensure_dir(&blobs.whole_dir())?;
        atomic::ensure_dir(&blobs.partial_dir())?;
        Ok(blobs)
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.whole_dir().join(digest.hex())
    }

    /// Its length, if it is there.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        let about = fs::symlink_metadata(self.path(digest)).ok()?;
        about.is_file().then_some(about.len())
    }

    pub(crate) fn reader(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.path(digest))
    }

    /// The content of a small blob, verified again; `None` if it is missing, damaged or longer than `most`.
    pub(crate) fn document(&self, digest: &Digest, most: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.reader(digest).ok()?;
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).ok()?;
        let whole = u64::try_from(bytes.len()).is_ok_and(|len| len <= most);
        (whole && Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Whether a blob is there and is not what its name says.
    pub(crate) fn is_damaged(&self, digest: &Digest) -> bool {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 256 << 10];
        let Ok(mut file) = self.reader(digest) else {
            return false;
        };
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return hasher.finish() != *digest,
                Ok(got) => hasher.update(buffer.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What cannot be read is as good as damaged.
                Err(_) => return true,
            }
        }
    }

    /// Stores bytes that are at hand.
    pub(crate) fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        if self.document(&digest, u64::MAX - 1).is_none() {
            atomic::write(&self.path(&digest), 0o400, bytes)?;
        }
        Ok(digest)
    }

    /// Stores everything that `input` still has, whatever its digest turns out to be.
    pub(crate) fn take(
        &self,
        input: &mut dyn Read,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<Stored> {
        let dir = self.partial_dir();
        let mut file = atomic::temp_in(&dir)?;
        let (mut hasher, mut size) = (Hasher::default(), 0u64);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let got = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..got).unwrap_or_default();
            file.as_file_mut().write_all(bytes)?;
            hasher.update(bytes);
            size = size.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
            progress(u64::try_from(got).unwrap_or(u64::MAX));
        }
        let digest = hasher.finish();
        let new = self.size(&digest) != Some(size);
        if new {
            file.as_file().set_permissions(Permissions::from_mode(0o400))?;
            file.as_file().sync_all()?;
            file.persist(self.path(&digest)).map_err(|error| error.error)?;
            atomic::sync_dir(&self.whole_dir())?;
        }
        Ok(Stored { descriptor: Descriptor { digest, size, media_type: String::new() }, new })
    }

    /// The place where the content of `digest` is to be written; waits for whoever writes it now.
    pub(crate) fn slot(
        &self,
        digest: &Digest,
        cancel: &Cancel,
        waiting: &mut dyn FnMut(),
    ) -> io::Result<Slot> {
        partial::slot(self, digest, cancel, waiting)
    }

    pub(crate) fn whole_dir(&self) -> PathBuf {
        self.dir.join("sha256")
    }

    pub(crate) fn partial_dir(&self) -> PathBuf {
        self.dir.join("partial")
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.partial_dir().join(digest.hex())
    }
}

/// Whether `file` is what `path` names.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
