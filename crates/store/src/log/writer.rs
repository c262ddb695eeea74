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
        let file = open_for_appending(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limits, file, size })
    }

    /// Moves the full file aside, dropping the oldest, and begins another.
    fn rotate(&mut self) -> io::Result<()> {
        for age in (0..self.limits.kept).rev() {
            let (from, to) = (aged(&self.path, age), aged(&self.path, age.saturating_add(1)));
            match fs::rename(from, to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if self.limits.kept == 0 {
            // Nothing is kept: a follower notices that the file is another one.
            fs::remove_file(&self.path)?;
        }
        self.file = open_for_appending(&self.path)?;
        self.size = self.file.metadata()?.len();
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

fn open_for_appending(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}
