//! A log file that moves aside when it is full.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How much a log may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Largest size of one file. Unit: bytes.
    pub file_bytes: NonZeroU64,
    /// How many full ones are kept beside the one being written.
    pub kept: u32,
}

impl Default for LogLimits {
    /// Four files of 2 MiB in all.
    fn default() -> Self {
        Self { file_bytes: NonZeroU64::new(2 << 20).expect("2 MiB is not zero"), kept: 3 }
    }
}

/// Writes a log that takes at most `file_bytes × (kept + 1)` bytes.
///
/// ```text
///   console.log ─full─▶ console.log.1 ─▶ console.log.2 ─▶ … ─▶ deleted
/// ```
///
/// One writer per log, as there is one monitor per VM. Files are readable by their owner only.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    /// Size of `file`. Unit: bytes.
    size: u64,
}

impl LogWriter {
    /// Goes on with the log at `path`, or begins it.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or made.
    pub fn open(path: &Path, limits: LogLimits) -> io::Result<Self> {
        drop_older(path, limits.kept)?;
        let file = open_for_appending(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limits, file, size })
    }

    /// Moves the full file aside, dropping the oldest, and begins another. The new one is made before
    /// anything is moved, so that a disk without room costs none of what is there.
    fn rotate(&mut self) -> io::Result<()> {
        let fresh = fresh_beside(&self.path);
        forget(&fresh)?;
        let file = open_for_appending(&fresh)?;
        for age in (0..self.limits.kept).rev() {
            match fs::rename(aged(&self.path, age), aged(&self.path, age.saturating_add(1))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        fs::rename(&fresh, &self.path)?;
        self.file = file;
        self.size = 0;
        Ok(())
    }
}

impl Write for LogWriter {
    /// Writes what the present file has room for; never more than its limit allows.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.size >= self.limits.file_bytes.get() {
            self.rotate()?;
        }
        let room = self.limits.file_bytes.get().saturating_sub(self.size).max(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let written = self.file.write(bytes.get(..room).unwrap_or(bytes))?;
        self.size = self.size.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The name of a log's file that is `age` rotations old.
pub(super) fn aged(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

fn fresh_beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".fresh");
    PathBuf::from(name)
}

/// Deletes what was kept under limits that allowed more.
fn drop_older(path: &Path, kept: u32) -> io::Result<()> {
    for age in kept.saturating_add(1)..=oldest_age(path)? {
        forget(&aged(path, age))?;
    }
    Ok(())
}

/// The highest age that any file of a log has.
pub(super) fn oldest_age(path: &Path) -> io::Result<u32> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(0) };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut highest = 0;
    for entry in entries {
        let found = entry?.file_name();
        let rest = found.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let age = rest
            .and_then(|rest| std::str::from_utf8(rest).ok())
            .and_then(|rest| rest.strip_prefix('.')?.parse().ok())
            .filter(|age| *age <= MAX_AGE);
        highest = highest.max(age.unwrap_or(0));
    }
    Ok(highest)
}

/// Beyond what any writer keeps: a file that somebody named so is none of ours.
const MAX_AGE: u32 = 1000;

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open_for_appending(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}
