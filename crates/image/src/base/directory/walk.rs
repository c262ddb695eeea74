//! Everything below a directory, in an order that depends on names alone.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};

use super::{DirectoryError, unreadable};

/// What the walk comes upon.
pub(super) enum Step<'a> {
    /// The root itself, or something in the directory that was entered last.
    Entry(Entry<'a>),
    /// The directory that was entered last is done.
    Leave,
}

/// A file, directory or whatever else.
pub(super) struct Entry<'a> {
    /// The directory that it is in; for the root, itself.
    pub(super) directory: BorrowedFd<'a>,
    /// Its name there; for the root, `.`.
    pub(super) name: &'a CStr,
    /// Its path below the root; empty for the root.
    pub(super) path: &'a Path,
    pub(super) stat: Stat,
}

struct Level {
    directory: OwnedFd,
    path: PathBuf,
    /// Names that are still to be visited, last first.
    names: Vec<CString>,
}

/// Calls `visit` for the root and everything below it: each directory's entries sorted by name, a directory's content right
/// after the directory, and [`Step::Leave`] after that.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), DirectoryError>,
) -> Result<(), DirectoryError> {
    let here = Path::new("");
    let stat = fstat(root).map_err(|errno| unreadable(here)(errno.into()))?;
    let device = stat.st_dev;
    visit(Step::Entry(Entry { directory: root, name: c".", path: here, stat }))?;
    let mut levels = vec![open_level(root, c".", here)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            visit(Step::Leave)?;
            continue;
        };
        let path = level.path.join(OsStr::from_bytes(name.to_bytes()));
        let stat = statat(&level.directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| unreadable(&path)(errno.into()))?;
        visit(Step::Entry(Entry {
            directory: level.directory.as_fd(),
            name: &name,
            path: &path,
            stat,
        }))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let next = if stat.st_dev == device {
                open_level(level.directory.as_fd(), &name, &path)?
            } else {
                let directory = rustix::io::fcntl_dupfd_cloexec(&level.directory, 0)
                    .map_err(|errno| unreadable(&path)(errno.into()))?;
                Level { directory, path, names: Vec::new() }
            };
            levels.push(next);
        }
    }
    Ok(())
}

fn open_level(parent: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<Level, DirectoryError> {
    let failed = |errno: rustix::io::Errno| unreadable(path)(errno.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Level { directory, path: path.to_owned(), names })
}
