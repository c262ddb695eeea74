//! `images/.lock`: whoever adds holds it together with others, whoever takes away alone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock on the images, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct ImagesLock {
    #[expect(dead_code, reason = "the lock is held by the open file")]
    file: File,
}

/// Why the images could not be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock's file cannot be opened or locked.
    #[error("could not lock {path}")]
    File {
        /// The lock's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An image is being pulled, imported or used for a new VM.
    #[error("an image is being pulled or used for a new VM; try again when that is over")]
    Busy,
}

/// Waits until nothing is being taken away, and keeps it so.
pub(crate) fn shared(images: &Path) -> Result<ImagesLock, LockError> {
    take(images, FlockOperation::NonBlockingLockShared, Duration::MAX)
}

/// Waits a little until nobody adds anything, and keeps it so.
pub(crate) fn exclusive(images: &Path) -> Result<ImagesLock, LockError> {
    take(images, FlockOperation::NonBlockingLockExclusive, EXCLUSIVE_WAIT)
}

fn take(images: &Path, how: FlockOperation, longest: Duration) -> Result<ImagesLock, LockError> {
    let path = images.join(".lock");
    let file_error = |source| LockError::File { path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(file_error)?;
    let start = Instant::now();
    loop {
        match flock(&file, how) {
            Ok(()) => return Ok(ImagesLock { file }),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < longest => {
                std::thread::sleep(POLL);
            }
            Err(Errno::WOULDBLOCK) => return Err(LockError::Busy),
            Err(error) => return Err(file_error(error.into())),
        }
    }
}

const POLL: Duration = Duration::from_millis(20);
const EXCLUSIVE_WAIT: Duration = Duration::from_secs(5);
