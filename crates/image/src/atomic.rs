//! Files that appear whole or not at all: temporary name, sync, rename, sync of the directory.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempPath};

/// Prefix of temporary names; whoever cleans a directory up may delete what begins so and is old.
pub const TEMP_PREFIX: &str = ".tmp-";

/// A new temporary file in `dir`, mode 0600, deleted again unless it is given another name.
///
/// Write to its [`NamedTempFile::as_file_mut`]: errors of the other one tell a name that nobody has chosen.
///
/// # Errors
///
/// What the operating system says, without the temporary name.
pub fn temp_in(dir: &Path) -> io::Result<NamedTempFile> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    // Its own way to open a file adds the path to what the operating system said.
    tempfile::Builder::new().prefix(TEMP_PREFIX).make_in(dir, |path| options.open(path))
}

/// Gives `file` its mode and its final name, durably. Replaces what was there.
pub(crate) fn publish(file: NamedTempFile, mode: u32, dest: &Path) -> io::Result<()> {
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(dest).map_err(|error| error.error)?;
    sync_parent(dest)
}

/// Writes `bytes` as `dest`, durably; replaces what was there.
///
/// # Errors
///
/// What the operating system says; the old file is then still there, and no temporary one.
pub fn write(dest: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = temp_in(parent_of(dest))?;
    file.as_file_mut().write_all(bytes)?;
    publish(file, mode, dest)
}

/// A file without a name: a killed process leaves nothing of it.
#[derive(Debug)]
pub(crate) struct Unnamed {
    file: File,
    /// On file systems without `O_TMPFILE` it does have one.
    name: Option<TempPath>,
}

impl Unnamed {
    /// A new, empty file on the file system of `dir`, open for reading and writing.
    pub(crate) fn in_dir(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(Self { file: fd.into(), name: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let (file, name) = temp_in(dir)?.into_parts();
                Ok(Self { file, name: Some(name) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Another handle to the same file.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives the file its mode and its name, durably. If `dest` exists it is left as it is: for names that say what is
    /// inside. The file's modification time is 1970, so that one that is lost and made again is the same in that too.
    pub(crate) fn publish_unless_there(self, mode: u32, dest: &Path) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))?;
        self.file.set_modified(UNIX_EPOCH)?;
        self.file.sync_all()?;
        let linked = match self.name {
            Some(name) => name.persist_noclobber(dest).map_err(|error| error.error),
            None => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, own, CWD, dest, AtFlags::SYMLINK_FOLLOW)
                    .map_err(io::Error::from)
            }
        };
        match linked {
            Ok(()) => sync_parent(dest),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Makes the entry of `path` in its directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent_of(path))
}

/// Makes the entries of `dir` durable.
///
/// # Errors
///
/// What the operating system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and what is missing above it; what exists keeps its mode.
pub(crate) fn ensure_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unnamed_file_shows_only_when_published_and_yields_to_what_is_there() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dest = dir.path().join("file");
        let unnamed = |content: &[u8]| {
            let unnamed = Unnamed::in_dir(dir.path()).expect("creates");
            unnamed.handle().expect("duplicates").write_all(content).expect("writes");
            unnamed
        };

        let first = unnamed(b"first");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0);
        first.publish_unless_there(0o400, &dest).expect("publishes");
        unnamed(b"second").publish_unless_there(0o400, &dest).expect("yields");

        assert_eq!(fs::read(&dest).expect("reads"), b"first");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn an_error_tells_no_name_that_nobody_has_chosen() {
        let error = temp_in(Path::new("/nonexistent")).expect_err("there is no directory");

        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_written_file_replaces_the_old_one_and_leaves_no_temporary_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dest = dir.path().join("file");
        write(&dest, 0o600, b"old").expect("writes");

        write(&dest, 0o640, b"new").expect("writes");

        assert_eq!(fs::read(&dest).expect("reads"), b"new");
        assert_eq!(fs::metadata(&dest).expect("stats").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }
}
