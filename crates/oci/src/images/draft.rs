//! A file that is being written into somebody else's directory.
//!
//! Until it is whole it has a name of its own beside the one that it gets, and its writer holds a `flock(2)` on it. Who finds
//! such a file without a lock knows that its writer was killed, and deletes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::atomic;
use crate::blobs::is_at;

/// A file that appears at its place when it is whole; or the device or pipe that is there, written as it is.
#[derive(Debug)]
pub(super) struct Draft {
    file: File,
    /// Its name meanwhile, and the one that it gets.
    names: Option<(PathBuf, PathBuf)>,
}

impl Draft {
    /// Begins what will be `dest`, and takes away what killed writers left beside it.
    pub(super) fn begin(dest: &Path) -> io::Result<Self> {
        match dest.metadata() {
            Ok(about) if about.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(about) if !about.is_file() => {
                let file = OpenOptions::new().write(true).open(dest)?;
                return Ok(Self { file, names: None });
            }
            Ok(_) | Err(_) => {}
        }
        let dir = dest.parent().unwrap_or(dest);
        sweep(dir);
        for number in 0u32..MAX_TRIES {
            let path = dir.join(format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id()));
            match create(&path) {
                Ok(Some(file)) => {
                    return Ok(Self { file, names: Some((path, dest.to_owned())) });
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives it its place, durably.
    pub(super) fn publish(mut self) -> io::Result<()> {
        let Some((path, dest)) = &self.names else {
            return Ok(());
        };
        self.file.sync_all()?;
        fs::rename(path, dest)?;
        let synced = atomic::sync_dir(dest.parent().unwrap_or(dest));
        self.names = None;
        synced
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.names {
            // If it cannot be deleted now, the next one does it.
            drop(atomic::delete(path));
        }
    }
}

/// A new file that is ours; `None` if somebody swept it away before we had locked it.
fn create(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::LockExclusive) {
        Ok(()) => Ok(is_at(&file, path)?.then_some(file)),
        // Where there are no locks, nobody can tell that it is free either.
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => Ok(Some(file)),
        Err(error) => Err(error.into()),
    }
}

/// Deletes what killed writers left in `dir`.
fn sweep(dir: &Path) {
    // What cannot be listed, opened or deleted now may be the next time.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(is_draft)
            && entry.file_type().is_ok_and(|kind| kind.is_file());
        let Some(file) = is_ours.then(|| File::open(entry.path()).ok()).flatten() else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            drop(atomic::delete(&entry.path()));
        }
    }
}

fn is_draft(name: &str) -> bool {
    let middle = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    let numbers = middle.and_then(|middle| middle.split_once('-'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(process, number)| digits(process) && digits(number))
}

const PREFIX: &str = ".bandsox-export-";
const SUFFIX: &str = ".tmp";
const MAX_TRIES: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("lists").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_writer_left_goes_and_what_the_living_write_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let similar = [".bandsox-export-1.tmp", ".bandsox-export-1-x.tmp", ".tmp-x", "x"];
        for name in similar.iter().chain(&[".bandsox-export-1-0.tmp"]) {
            fs::write(dir.path().join(name), "the beginning").expect("written");
        }

        let mut living = Draft::begin(&dir.path().join("out")).expect("begins");
        let second = Draft::begin(&dir.path().join("out")).expect("begins");
        assert_eq!(names(dir.path()).len(), similar.len() + 2, "{:?}", names(dir.path()));
        drop(second);
        living.write_all(b"whole").expect("written");
        living.publish().expect("published");

        assert_eq!(fs::read(dir.path().join("out")).expect("there"), b"whole");
        assert_eq!(names(dir.path()).len(), similar.len() + 1, "{:?}", names(dir.path()));
    }

    #[test]
    fn a_pipe_is_written_and_not_replaced_and_a_directory_is_neither() {
        use std::io::Read as _;
        use std::os::unix::fs::FileTypeExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("made");
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut text = String::new();
                File::open(pipe).expect("opens").read_to_string(&mut text).map(|_| text)
            }
        });

        let mut draft = Draft::begin(&pipe).expect("begins");
        draft.write_all(b"through").expect("written");
        draft.publish().expect("published");

        assert_eq!(reader.join().expect("no panic").expect("read"), "through");
        assert!(pipe.metadata().expect("there").file_type().is_fifo());
        let error = Draft::begin(dir.path()).expect_err("is refused");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
