//! Temporary files whose writer was killed.
//!
//! Whoever has temporary files in a directory holds a shared `flock(2)` on the directory meanwhile, through the descriptor
//! that it has open anyway. Whoever gets the exclusive lock therefore knows that each temporary file there belongs to
//! nobody. That costs one system call a directory and none a file, and the kernel gives a lock back whatever its holder
//! died of.
//!
//! Locks are a courtesy: where the file system has none, or somebody else uses them on the same directory, nothing is
//! swept, and transfers go on.

use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FlockOperation, flock, unlinkat};
use rustix::io::Errno;

/// How often, and in what distance, a sweep by another process is waited for.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

const PREFIX: &[u8] = b".bandsox-";
const SUFFIX: &[u8] = b".tmp";
const DIGITS: usize = 16;

/// The temporary name that a number gives.
pub(crate) fn name(number: u64) -> String {
    format!(".bandsox-{number:016x}.tmp")
}

/// Says that temporary files are in use in `dir`, until the description behind the descriptor is closed.
pub(crate) fn occupy(dir: BorrowedFd<'_>) {
    for _ in 0..TRIES {
        match flock(dir, FlockOperation::NonBlockingLockShared) {
            Err(Errno::AGAIN) => thread::sleep(PAUSE),
            // Without locks, nobody sweeps either.
            Ok(()) | Err(_) => return,
        }
    }
}

/// Removes what killed processes left in `dir`, unless another one is busy there; then as [`occupy`].
pub(crate) fn sweep(dir: BorrowedFd<'_>) {
    if flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // What cannot be listed or removed now may be the next time.
        for entry in Dir::read_from(dir).into_iter().flatten().flatten() {
            if is_temporary(entry.file_name().to_bytes()) {
                unlinkat(dir, entry.file_name(), AtFlags::empty()).ok();
            }
        }
    }
    occupy(dir);
}

fn is_temporary(name: &[u8]) -> bool {
    let digits = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("lists").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_sweep_takes_the_temporary_files_of_the_dead_and_nothing_that_looks_similar() {
        let dir = tempfile::tempdir().expect("a directory");
        let similar =
            [".bandsox-.tmp", ".bandsox-0123456789abcdeg.tmp", ".bandsox-x.part", "bandsox.tmp"];
        for kept in similar {
            fs::write(dir.path().join(kept), "").expect("written");
        }
        fs::write(dir.path().join(name(7)), "").expect("written");

        sweep(File::open(dir.path()).expect("opens").as_fd());

        assert_eq!(names(dir.path()), similar);
    }

    #[test]
    fn a_sweep_spares_the_temporary_files_of_the_living() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || File::open(dir.path()).expect("opens");
        let writer = open();
        occupy(writer.as_fd());
        fs::write(dir.path().join(name(7)), "").expect("written");

        let second = open();
        sweep(second.as_fd());
        assert_eq!(names(dir.path()), [name(7)]);
        // The second one has become a writer, too.
        drop(writer);
        sweep(open().as_fd());
        assert_eq!(names(dir.path()), [name(7)]);

        drop(second);
        sweep(open().as_fd());
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_lock_of_somebody_elses_stops_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let [foreign, ours] = [(); 2].map(|()| File::open(dir.path()).expect("opens"));
        flock(&foreign, FlockOperation::LockExclusive).expect("free");

        sweep(ours.as_fd());
    }
}
