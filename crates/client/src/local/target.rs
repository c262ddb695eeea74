//! Where a downloaded file or directory goes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

/// Where a download goes, decided before anything is fetched.
#[derive(Debug)]
pub enum Destination {
    /// A name in a directory. What is there, if anything, is replaced once the new is complete.
    Entry {
        /// The directory, open.
        directory: OwnedFd,
        /// The name in it: one component, never `.` or `..`.
        name: OsString,
        /// The whole path, for messages.
        shown: PathBuf,
    },
    /// A device, a pipe or a socket that exists and is written into.
    Stream {
        /// It, open for writing.
        file: File,
        /// Its path, for messages.
        shown: PathBuf,
    },
}

/// Why a download has nowhere to go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The directory that would hold it does not exist.
    #[error("directory {} does not exist", parent.display())]
    NoParent {
        /// The directory.
        parent: PathBuf,
    },
    /// The path ends in a slash or is used as a directory, but is none.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A symbolic link to nothing; following it might surprise.
    #[error("{} is a symbolic link that leads nowhere", path.display())]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// Neither the target nor the source has a name that a file could get.
    #[error("{} does not name a file", path.display())]
    NoName {
        /// The path without a name.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Destination {
    /// Decides where something called `source_name` goes when the user says `target`: into it, if
    /// it is a directory or ends in `/`; otherwise it is the target itself. A symbolic link to a
    /// file is followed, as `cp` does.
    ///
    /// # Errors
    ///
    /// [`TargetError`], before anything is created.
    pub fn resolve(target: &Path, source_name: &OsStr) -> Result<Self, TargetError> {
        let io = |source| TargetError::Io { path: target.to_path_buf(), source };
        let wants_directory = target.as_os_str().as_bytes().ends_with(b"/");
        match rustix::fs::stat(target) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Self::inside(target, source_name),
                FileType::RegularFile => Self::entry(&final_path(target).map_err(io)?),
                FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {
                    let file = File::options().write(true).open(target).map_err(io)?;
                    Ok(Self::Stream { file, shown: target.to_path_buf() })
                }
            },
            Err(error) if error == rustix::io::Errno::NOENT => {
                if wants_directory {
                    return Err(TargetError::NoParent { parent: target.to_path_buf() });
                }
                if rustix::fs::lstat(target).is_ok() {
                    return Err(TargetError::Dangling { path: target.to_path_buf() });
                }
                Self::entry(target)
            }
            Err(error) if error == rustix::io::Errno::NOTDIR => {
                let path = if wants_directory { target } else { parent_of(target) };
                Err(TargetError::NotADirectory { path: path.to_path_buf() })
            }
            Err(error) => Err(io(error.into())),
        }
    }

    /// The path for messages.
    #[must_use]
    pub fn shown(&self) -> &Path {
        match self {
            Self::Entry { shown, .. } | Self::Stream { shown, .. } => shown,
        }
    }

    fn inside(directory: &Path, source_name: &OsStr) -> Result<Self, TargetError> {
        if !is_component(source_name) {
            return Err(TargetError::NoName { path: PathBuf::from(source_name) });
        }
        let target = directory.join(source_name);
        match rustix::fs::lstat(&target).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            // Found by the guest's name for it, not by the user's: a link there is replaced, never
            // followed.
            Ok(FileType::RegularFile | FileType::Symlink | FileType::Directory) | Err(_) => {
                Self::entry(&target)
            }
            Ok(_) => Err(TargetError::Io {
                path: target,
                source: io::Error::other("it is neither a file nor a directory"),
            }),
        }
    }

    fn entry(target: &Path) -> Result<Self, TargetError> {
        let name = target
            .file_name()
            .filter(|name| is_component(name))
            .ok_or_else(|| TargetError::NoName { path: target.to_path_buf() })?
            .to_owned();
        let parent = parent_of(target);
        let directory = rustix::fs::open(
            parent,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| match error {
            rustix::io::Errno::NOENT => TargetError::NoParent { parent: parent.to_path_buf() },
            rustix::io::Errno::NOTDIR => TargetError::NotADirectory { path: parent.to_path_buf() },
            other => TargetError::Io { path: parent.to_path_buf(), source: other.into() },
        })?;
        Ok(Self::Entry { directory, name, shown: target.to_path_buf() })
    }
}

/// The path of the file that `target` leads to, with no link as its last component.
fn final_path(target: &Path) -> io::Result<PathBuf> {
    let direct = rustix::fs::statat(CWD, target, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(direct.st_mode) != FileType::Symlink {
        return Ok(target.to_path_buf());
    }
    let file = rustix::fs::open(target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file.as_fd()));
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != OsStr::new("") => parent,
        _ => Path::new("."),
    }
}

fn is_component(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/')
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn entry(target: &Path, source: &str) -> PathBuf {
        match Destination::resolve(target, OsStr::new(source)).expect("resolves") {
            Destination::Entry { shown, .. } => shown,
            Destination::Stream { shown, .. } => panic!("{} is a stream", shown.display()),
        }
    }

    #[test]
    fn an_existing_directory_is_gone_into() {
        let dir = tempfile::tempdir().expect("a directory");

        assert_eq!(entry(dir.path(), "a.txt"), dir.path().join("a.txt"));
        assert_eq!(entry(&dir.path().join("."), "a.txt"), dir.path().join("./a.txt"));
    }

    #[test]
    fn another_path_is_the_target_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("b.txt");

        assert_eq!(entry(&target, "a.txt"), target);
    }

    #[test]
    fn a_missing_parent_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let parent = dir.path().join("missing");

        let refused = Destination::resolve(&parent.join("a"), OsStr::new("a"));

        assert!(
            matches!(&refused, Err(TargetError::NoParent { parent: named }) if *named == parent),
            "{refused:?}"
        );
    }

    #[test]
    fn a_trailing_slash_wants_a_directory_that_exists() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("file"), "").expect("written");

        let missing = Destination::resolve(&dir.path().join("new/"), OsStr::new("a"));
        let file = Destination::resolve(&dir.path().join("file/"), OsStr::new("a"));

        assert!(matches!(missing, Err(TargetError::NoParent { .. })), "{missing:?}");
        assert!(matches!(file, Err(TargetError::NotADirectory { .. })), "{file:?}");
    }

    #[test]
    fn a_link_named_by_the_user_is_followed_and_one_named_by_the_guest_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let real = dir.path().join("real");
        let link = dir.path().join("link");
        fs::write(&real, "").expect("written");
        symlink("real", &link).expect("linked");

        assert_eq!(entry(&link, "a").file_name(), real.file_name());
        assert_eq!(entry(dir.path(), "link"), link);
    }

    #[test]
    fn a_dangling_link_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        symlink("nowhere", &link).expect("linked");

        let refused = Destination::resolve(&link, OsStr::new("a"));

        assert!(matches!(refused, Err(TargetError::Dangling { .. })), "{refused:?}");
    }

    #[test]
    fn a_device_is_written_into_not_replaced() {
        let target = Destination::resolve(Path::new("/dev/null"), OsStr::new("a"));

        assert!(matches!(target, Ok(Destination::Stream { .. })), "{target:?}");
    }

    #[test]
    fn a_source_name_with_a_path_in_it_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["../x", "..", ".", "", "a/b", "/etc/passwd"] {
            let refused = Destination::resolve(dir.path(), OsStr::new(name));

            assert!(matches!(refused, Err(TargetError::NoName { .. })), "{name}: {refused:?}");
        }
    }
}
