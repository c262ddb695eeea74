//! Opening what is to be uploaded.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::Mode;

use crate::failure::{Explain as _, Failure};

/// Something to upload.
#[derive(Debug)]
pub(super) enum Local {
    /// One file.
    File {
        /// It, from its start.
        file: File,
        /// Its length in bytes.
        size: u64,
        /// Permission bits.
        mode: u32,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
        /// The name it has, if it has one.
        name: Option<OsString>,
    },
    /// A directory.
    Directory {
        /// The name it has, if it has one.
        name: Option<OsString>,
    },
}

/// Opens what the user named; `-` is standard input. What is not a regular file (a pipe, a device)
/// is read to its end first, since its length has to be known.
pub(super) fn open(path: &Path) -> Result<Local, Failure> {
    let cannot = || format!("cannot read {}", path.display());
    if path == Path::new("-") {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        return from_start(stdin).and_then(|file| of_file(file, None)).with(cannot);
    }
    let metadata = path.metadata().map_err(Failure::from).with(cannot)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        // Opened to see that it can be, and to know what `.` is called.
        let directory = File::open(path).map_err(Failure::from).with(cannot)?;
        return Ok(Local::Directory { name: name(path, &directory) });
    }
    if kind.is_socket() {
        return Err(Failure::new("it is a socket")).with(cannot);
    }
    let file = File::open(path).map_err(Failure::from).with(cannot)?;
    let name = name(path, &file);
    from_start(file).and_then(|file| of_file(file, name)).with(cannot)
}

/// The file itself if it is a regular one at its start, else a copy of what can be read from it.
/// An empty file may be one of those that only say what they hold when read, as in `/proc`.
fn from_start(mut file: File) -> Result<File, Failure> {
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > 0 && file.stream_position()? == 0 {
        return Ok(file);
    }
    let mut copy = tempfile::tempfile().context("cannot make a temporary file")?;
    let copied = io::copy(&mut file, &mut copy)?;
    if metadata.is_file() && copied == 0 && metadata.len() == 0 {
        return Ok(file);
    }
    let mode = if metadata.is_file() { metadata.mode() & 0o7777 } else { 0o644 };
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(mode))?;
    copy.rewind()?;
    Ok(copy)
}

fn of_file(file: File, name: Option<OsString>) -> Result<Local, Failure> {
    let metadata = file.metadata()?;
    let mtime_ns =
        metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    let (size, mode) = (metadata.len(), metadata.mode() & 0o7777);
    Ok(Local::File { file, size, mode, mtime_ns, name })
}

/// The last component of a path, also where the path ends in `.` or `..`.
fn name(path: &Path, open: &File) -> Option<OsString> {
    path.file_name().map(OsStr::to_owned).or_else(|| {
        let link = format!("/proc/self/fd/{}", open.as_raw_fd());
        let real = rustix::fs::readlink(link, Vec::new()).ok()?;
        Path::new(OsStr::from_bytes(real.as_bytes())).file_name().map(OsStr::to_owned)
    })
}

/// Context that is only spelled out when needed.
trait With<T> {
    fn with(self, context: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> With<T> for Result<T, Failure> {
    fn with(self, context: impl FnOnce() -> String) -> Self {
        self.map_err(|failure| failure.context(context()))
    }
}
