//! The lock under which the storage directory is changed.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::file::{Doing, FileError};
use crate::ofd;

/// Proof that this thread, of all threads of all processes, may change the store.
///
/// Held for single steps, never while waiting for anything: a VM's own lock is only ever *tried*
/// under it, so that the two cannot deadlock.
#[derive(Debug)]
pub(crate) struct StoreGuard {
    _file: File,
}

impl StoreGuard {
    /// Waits for the lock on `path`, making the file if need be.
    pub(crate) fn wait(path: &Path) -> Result<Self, GuardError> {
        Self::wait_until(path, Instant::now() + PATIENCE)
    }

    fn wait_until(path: &Path, deadline: Instant) -> Result<Self, GuardError> {
        loop {
            let file = Self::lock_by(path, deadline)?;
            // Had somebody deleted the file meanwhile, others would lock another of that name.
            if is_still(&file, path) {
                return Ok(Self { _file: file });
            }
        }
    }

    fn lock_by(path: &Path, deadline: Instant) -> Result<File, GuardError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(Doing::Lock.to(path))?;
        let mut pause = SHORTEST_PAUSE;
        while !ofd::try_lock(file.as_fd()).map_err(Doing::Lock.to(path))? {
            if Instant::now() >= deadline {
                return Err(GuardError::Busy { path: path.to_owned() });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(file)
    }
}

fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(named)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

/// Why the store could not be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody has held the lock for longer than any step takes.
    #[error(
        "{} has been locked for over {} s; find the process that holds it, perhaps stopped, with `lsof`",
        path.display(),
        PATIENCE.as_secs()
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
}

/// Long enough for a queue of a hundred on a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_never_given_back_is_reported_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store.lock");
        let _held = StoreGuard::wait(&path).expect("the first has it at once");

        let refusal = StoreGuard::wait_until(&path, Instant::now()).expect_err("it is held");

        assert!(matches!(refusal, GuardError::Busy { .. }));
    }

    #[test]
    fn a_deleted_lock_file_does_not_let_two_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store.lock");
        let first = StoreGuard::wait(&path).expect("nobody has it");

        let waiting = thread::scope(|threads| {
            let waiter = threads.spawn(|| StoreGuard::wait(&path));
            // The waiter has opened the file by now, or opens the next one: both must do.
            thread::sleep(Duration::from_millis(20));
            std::fs::remove_file(&path).expect("it is there");
            drop(first);
            waiter.join().expect("it does not panic")
        });

        assert!(waiting.is_ok());
        assert!(
            StoreGuard::wait_until(&path, Instant::now()).is_err(),
            "the waiter has the new one"
        );
    }

    #[test]
    fn the_lock_is_free_again_when_its_guard_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store.lock");

        drop(StoreGuard::wait(&path).expect("the first has it at once"));

        assert!(StoreGuard::wait_until(&path, Instant::now()).is_ok());
    }
}
