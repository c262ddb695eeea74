//! A blob that is arriving.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Blobs, is_at};
use crate::atomic;
use crate::cancel::Cancel;
use crate::digest::{Digest, Hasher};

/// What is to be done about a blob.
#[derive(Debug)]
pub(crate) enum Slot {
    /// Nothing: it is there.
    There,
    /// It is ours to write.
    Ours(Partial),
    /// We were told to stop while somebody else wrote it.
    Cancelled,
}

/// The beginning of a blob, locked: nobody else writes it.
///
/// Invariant: `hasher` has taken exactly the first `have` bytes of the file, and the file has no more.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    dest: PathBuf,
    hasher: Hasher,
    have: u64,
}

pub(super) fn slot(
    blobs: &Blobs,
    digest: &Digest,
    cancel: &Cancel,
    waiting: &mut dyn FnMut(),
) -> io::Result<Slot> {
    let path = blobs.partial_path(digest);
    loop {
        if blobs.size(digest).is_some() {
            return Ok(Slot::There);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                waiting();
                if !cancel.sleep(POLL) {
                    return Ok(Slot::Cancelled);
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        // Between opening and locking, whoever wrote it may have finished, and the file be the blob by now.
        if !is_at(&file, &path)? {
            continue;
        }
        if blobs.size(digest).is_some() {
            atomic::delete(&path)?;
            return Ok(Slot::There);
        }
        let dest = blobs.path(digest);
        let mut partial = Partial { file, path, dest, hasher: Hasher::default(), have: 0 };
        partial.take_in()?;
        return Ok(Slot::Ours(partial));
    }
}

impl Partial {
    /// How much is there. Unit: bytes.
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.have = self.have.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Forgets what is there.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::default();
        self.have = 0;
        Ok(())
    }

    /// The digest of what is there.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Makes it the blob, durably. The caller has compared the digest.
    pub(crate) fn publish(self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o400))?;
        self.file.sync_all()?;
        fs::rename(&self.path, &self.dest)?;
        atomic::sync_dir(self.dest.parent().unwrap_or(&self.dest))
    }

    /// Deletes it.
    pub(crate) fn discard(self) -> io::Result<()> {
        atomic::delete(&self.path)
    }

    /// Hashes what an earlier attempt left.
    fn take_in(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let got = match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.hasher.update(buffer.get(..got).unwrap_or_default());
            self.have = self.have.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
        }
    }
}

/// How often to look whether somebody else has finished.
const POLL: Duration = Duration::from_millis(50);
