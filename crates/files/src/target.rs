//! Where files are to go.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bandsox_proto::ByteString;
use bandsox_proto::v2::EntryKind;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::{Action, FileError, ReceiveError, stat};

/// As many links as the kernel itself follows.
const MAX_LINKS: usize = 40;

/// What to do about missing parent directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// Make them.
    Create,
    /// Refuse.
    Require,
}

/// A place for a file or a tree: its directory is open, what is there now is known.
#[derive(Debug)]
pub struct Target {
    pub(crate) place: Place,
    path: ByteString,
}

#[derive(Debug)]
pub(crate) enum Place {
    /// A directory that is there.
    Dir(OwnedFd),
    /// A name in a directory: of a regular file, or of nothing yet.
    Name {
        dir: OwnedFd,
        name: Vec<u8>,
        /// Permission bits of the regular file that is there.
        mode: Option<u32>,
    },
}

impl Target {
    /// Looks at `path`, through symbolic links, for it was named by the user.
    ///
    /// With `inside`, a path that is a directory or ends in `/` means the entry of that name in it.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::File`], [`ReceiveError::Exists`] if a device, socket or pipe is there, or
    /// [`ReceiveError::Entry`] for an impossible `inside`.
    pub fn resolve(
        path: &Path,
        inside: Option<&[u8]>,
        parents: Parents,
    ) -> Result<Self, ReceiveError> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(FileError::on(Action::Open, &ByteString::default())(missing).into());
        }
        if inside.is_some_and(|name| !is_name(name)) {
            let path = ByteString::from(inside.unwrap_or_default());
            return Err(bandsox_proto::v2::InvalidEntry::Name { path }.into());
        }
        let is_dir = rustix::fs::stat(path).is_ok_and(|s| stat::kind(&s) == Some(EntryKind::Dir));
        match inside {
            Some(name) if is_dir || bytes.ends_with(b"/") => {
                if parents == Parents::Create {
                    make_parents(path)?;
                }
                Self::at(&path.join(OsStr::from_bytes(name)))
            }
            _ => {
                if parents == Parents::Create
                    && let Some(parent) = path.parent()
                {
                    make_parents(parent)?;
                }
                Self::at(path)
            }
        }
    }

    /// The path as resolved: through `inside` and through links.
    #[must_use]
    pub fn path(&self) -> &ByteString {
        &self.path
    }

    /// Whether a directory is there.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        matches!(self.place, Place::Dir(_))
    }

    /// Permission bits of the file that will be replaced, if there is one.
    #[must_use]
    pub fn mode(&self) -> Option<u32> {
        match self.place {
            Place::Dir(_) => None,
            Place::Name { mode, .. } => mode,
        }
    }

    fn at(path: &Path) -> Result<Self, ReceiveError> {
        let mut path = path.to_path_buf();
        for _ in 0..MAX_LINKS {
            match rustix::fs::readlinkat(CWD, &path, Vec::new()) {
                Ok(link) => {
                    let link = OsStr::from_bytes(link.as_bytes());
                    path = path.parent().unwrap_or(Path::new("/")).join(link);
                }
                Err(_) => return Self::at_end(&path),
            }
        }
        let error = FileError::on(Action::Open, &ByteString::from(path.as_path()))(Errno::LOOP);
        Err(error.into())
    }

    /// Opens `path`, whose last component is no link.
    fn at_end(path: &Path) -> Result<Self, ReceiveError> {
        let shown = ByteString::from(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(dir) => return Ok(Self { place: Place::Dir(dir), path: shown }),
            Err(Errno::NOTDIR | Errno::NOENT) => {}
            Err(error) => return Err(FileError::on(Action::Open, &shown)(error).into()),
        }
        let not_a_dir = || FileError::on(Action::Open, &shown)(Errno::NOTDIR);
        if path.as_os_str().as_bytes().ends_with(b"/")
            && rustix::fs::stat(path).is_err_and(|e| e == Errno::NOTDIR)
        {
            return Err(not_a_dir().into());
        }
        // `None` for `..` and the like, which as no directory was found are not there.
        let name = path.file_name().ok_or_else(not_a_dir)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = rustix::fs::openat(CWD, parent, flags, Mode::empty())
            .map_err(FileError::on(Action::Open, &ByteString::from(parent)))?;
        let mode = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => match stat::kind(&there).unwrap_or(EntryKind::Socket) {
                EntryKind::File => Some(stat::permissions(&there)),
                found @ (EntryKind::Dir
                | EntryKind::Symlink
                | EntryKind::Fifo
                | EntryKind::Socket
                | EntryKind::CharDevice
                | EntryKind::BlockDevice) => {
                    let wanted = EntryKind::File;
                    return Err(ReceiveError::Exists { path: shown, found, wanted });
                }
            },
            Err(Errno::NOENT) => None,
            Err(error) => return Err(FileError::on(Action::Open, &shown)(error).into()),
        };
        let name = name.as_bytes().to_vec();
        Ok(Self { place: Place::Name { dir, name, mode }, path: shown })
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

fn make_parents(dir: &Path) -> Result<(), ReceiveError> {
    let path = ByteString::from(dir);
    Ok(std::fs::create_dir_all(dir).map_err(FileError::on(Action::Create, &path))?)
}
