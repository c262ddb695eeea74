//! A file that appears under its name only once it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// A new file without a name yet, in the directory where it will get one.
///
/// Where the file system can, it has no name at all (`O_TMPFILE`), so that not even a killed
/// process leaves anything. Otherwise it has a hidden temporary name that dropping removes.
#[derive(Debug)]
pub struct Landing {
    directory: OwnedFd,
    name: OsString,
    shown: PathBuf,
    file: File,
    temporary: Option<OsString>,
}

/// Why a file could not be created or take its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LandingError {
    /// The file could not be created in its directory.
    #[error("cannot create {}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The finished file could not take its name.
    #[error("cannot replace {}", path.display())]
    Rename {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// How a file is opened before anybody else may see it.
const OPEN: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC);
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Landing {
    /// Creates an empty file, mode 0600, that will be `name` in `directory`.
    ///
    /// # Errors
    ///
    /// [`LandingError::Create`].
    pub fn create(directory: OwnedFd, name: &OsStr, shown: &Path) -> Result<Self, LandingError> {
        let unnamed = rustix::fs::openat(&directory, ".", OPEN | OFlags::TMPFILE, PRIVATE);
        match unnamed {
            Ok(file) => Ok(Self {
                directory,
                name: name.to_owned(),
                shown: shown.to_path_buf(),
                file: File::from(file),
                temporary: None,
            }),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::ISDIR | Errno::NOENT) => {
                Self::create_named(directory, name, shown)
            }
            Err(error) => {
                Err(LandingError::Create { path: shown.to_path_buf(), source: error.into() })
            }
        }
    }

    /// The way of file systems without unnamed files.
    fn create_named(directory: OwnedFd, name: &OsStr, shown: &Path) -> Result<Self, LandingError> {
        let failed = |source: io::Error| LandingError::Create { path: shown.to_path_buf(), source };
        let temporary = temporary_name().map_err(failed)?;
        let flags = OPEN | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&directory, &temporary, flags, PRIVATE)
            .map_err(|error| failed(error.into()))?;
        Ok(Self {
            directory,
            name: name.to_owned(),
            shown: shown.to_path_buf(),
            file: File::from(file),
            temporary: Some(temporary),
        })
    }

    /// The file, open for reading and writing.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path that it will have, for messages.
    #[must_use]
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Gives the file its name, in place of what may have had it.
    ///
    /// # Errors
    ///
    /// [`LandingError::Rename`]; the old file is as it was and nothing is left.
    pub fn land(mut self) -> Result<(), LandingError> {
        self.try_land().map_err(|source| LandingError::Rename { path: self.shown.clone(), source })
    }

    fn try_land(&mut self) -> io::Result<()> {
        if self.temporary.is_none() {
            match link(self.file.as_fd(), &self.directory, &self.name) {
                Ok(()) => return Ok(()),
                // A link cannot replace; a rename can, but needs a name to rename.
                Err(Errno::EXIST) => {
                    let temporary = temporary_name()?;
                    link(self.file.as_fd(), &self.directory, &temporary)?;
                    self.temporary = Some(temporary);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(&self.directory, temporary, &self.directory, &self.name)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing better can be done about a leftover than to try.
            rustix::fs::unlinkat(&self.directory, temporary, AtFlags::empty()).ok();
        }
    }
}

fn link(file: BorrowedFd<'_>, directory: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, unnamed, directory, name, AtFlags::SYMLINK_FOLLOW)
}

/// A hidden name that nobody else uses.
fn temporary_name() -> io::Result<OsString> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!(".bandsox-{random:016x}.part").into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn open(dir: &Path) -> OwnedFd {
        rustix::fs::open(dir, OFlags::RDONLY, Mode::empty()).expect("opens")
    }

    fn landing(dir: &Path) -> Landing {
        Landing::create(open(dir), OsStr::new("file"), &dir.join("file")).expect("creates")
    }

    fn names(dir: &Path) -> Vec<OsString> {
        fs::read_dir(dir).expect("lists").map(|entry| entry.expect("entry").file_name()).collect()
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_lands() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("file"), "old").expect("written");
        let new = landing(dir.path());
        new.file().write_all(b"new").expect("written");
        assert_eq!(fs::read(dir.path().join("file")).expect("reads"), b"old");

        new.land().expect("lands");

        assert_eq!(fs::read(dir.path().join("file")).expect("reads"), b"new");
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_file_that_never_lands_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");

        drop(landing(dir.path()));

        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn without_unnamed_files_a_hidden_name_does_and_does_not_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let create = || {
            Landing::create_named(open(dir.path()), OsStr::new("file"), &dir.path().join("file"))
                .expect("creates")
        };
        fs::write(dir.path().join("file"), "old").expect("written");

        let dropped = create();
        assert_eq!(names(dir.path()).len(), 2);
        drop(dropped);
        assert_eq!(names(dir.path()), ["file"]);
        let new = create();
        new.file().write_all(b"new").expect("written");
        new.land().expect("lands");

        assert_eq!(fs::read(dir.path().join("file")).expect("reads"), b"new");
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_directory_in_the_way_is_named_and_nothing_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let new = landing(dir.path());
        fs::create_dir(dir.path().join("file")).expect("created");

        let refused = new.land();

        let told = refused.expect_err("a directory is not replaced").to_string();
        assert_eq!(told, format!("cannot replace {}", dir.path().join("file").display()));
        assert_eq!(names(dir.path()), ["file"]);
    }
}
