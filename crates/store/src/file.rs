//! Reading small files with a bound, and replacing them whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::guard::StoreGuard;

/// The operating system refused something about a file of the store.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} {}", path.display())]
pub struct FileError {
    /// What was being done.
    pub doing: Doing,
    /// To which file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// What was being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doing {
    /// Making a directory or a file.
    Create,
    /// Reading it.
    Read,
    /// Writing it.
    Write,
    /// Locking it, or asking whether it is locked.
    Lock,
    /// Deleting it.
    Delete,
    /// Giving it another name.
    Rename,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Lock => "lock",
            Self::Delete => "delete",
            Self::Rename => "rename",
        })
    }
}

impl Doing {
    /// Turns what the operating system said into an error that says about what.
    pub(crate) fn to(self, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        move |source| FileError { doing: self, path: path.to_owned(), source }
    }
}

/// What a bounded read found.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing of that name.
    Missing,
    /// Something that is no regular file.
    NotRegular,
    /// More than the bound.
    TooLarge,
    /// All of it.
    Bytes(Vec<u8>),
}

/// Reads a regular file of at most `limit` bytes. Neither follows a link nor waits for a writer.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Content, FileError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Missing),
        // A symbolic link; a socket.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
            return Ok(Content::NotRegular);
        }
        Err(error) => return Err(Doing::Read.to(path)(error)),
    };
    let about = file.metadata().map_err(Doing::Read.to(path))?;
    if !about.is_file() {
        return Ok(Content::NotRegular);
    }
    if about.len() > limit {
        return Ok(Content::TooLarge);
    }
    let mut bytes = Vec::new();
    let beyond = limit.saturating_add(1);
    file.take(beyond).read_to_end(&mut bytes).map_err(Doing::Read.to(path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(Content::Bytes(bytes))
    } else {
        Ok(Content::TooLarge)
    }
}

/// As much of a file as the bound allows, as text of a kind; nothing of what is no regular file.
pub(crate) fn beginning(path: &Path, limit: u64) -> String {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut bytes = Vec::new();
    let read = OpenOptions::new().read(true).custom_flags(flags).open(path).and_then(|file| {
        let is_file = file.metadata()?.is_file();
        if is_file { file.take(limit).read_to_end(&mut bytes) } else { Ok(0) }
    });
    if let Err(error) = read {
        tracing::debug!(path = %path.display(), %error, "a file could not be read to its end");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Replaces a file's content so that whoever reads it, and whoever reads it after a power cut, finds
/// the old or the new whole. The result is readable by the owner only.
///
/// The temporary name is fixed: the store's lock, of which the guard is proof, keeps writers apart,
/// and one that was killed leaves at most one file behind, which the next replaces.
pub(crate) fn replace(_: &StoreGuard, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    delete(&temporary)?;
    let written = write_new(&temporary, bytes).map_err(Doing::Write.to(path));
    let renamed = written
        .and_then(|()| fs::rename(&temporary, path).map_err(Doing::Write.to(path)))
        .and_then(|()| sync_parent(path));
    if renamed.is_err()
        && let Err(error) = delete(&temporary)
    {
        tracing::debug!(path = %temporary.display(), %error, "a temporary file stays behind");
    }
    renamed
}

/// The name that [`replace`] writes to first. Hidden, and with an ending that no reader looks for.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

/// Makes a file and its name survive a power cut; one that is not there needs nothing.
pub(crate) fn sync_if_there(path: &Path) -> Result<(), FileError> {
    match File::open(path) {
        Ok(file) => {
            file.sync_all().map_err(Doing::Write.to(path))?;
            sync_parent(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Doing::Write.to(path)(error)),
    }
}

/// Makes what was renamed or deleted in a file's directory survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(Doing::Write.to(parent))
}

/// Deletes a file; one that is not there is as good as deleted. Says whether it was there.
pub(crate) fn delete(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Doing::Delete.to(path)(error)),
    }
}

/// Deletes a file, or a directory with all that is in it, following no link. Says whether it was
/// there.
pub(crate) fn delete_tree(path: &Path) -> Result<bool, FileError> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Doing::Delete.to(path)(error)),
    };
    if !about.is_dir() {
        return delete(path);
    }
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Doing::Delete.to(path)(error)),
    }
}

/// Makes a directory that only its owner may enter, with its parents, unless it is there.
pub(crate) fn private_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Doing::Create.to(path))
}

/// Closes a directory to everybody but its owner. That this cannot be done is worth a warning only.
pub(crate) fn close_to_others(path: &Path) {
    let closed = fs::symlink_metadata(path).and_then(|about| {
        let mode = about.permissions().mode();
        let open = about.is_dir() && mode & 0o077 != 0;
        if open {
            fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7700))
        } else {
            Ok(())
        }
    });
    if let Err(error) = closed {
        tracing::warn!(path = %path.display(), %error, "others can look into this directory");
    }
}

/// The entries of a directory, as names in a fixed order; none if it is not there.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<OsString>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Doing::Read.to(dir)(error)),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Doing::Read.to(dir))?;
    names.sort();
    Ok(names)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
