//! From what the user names to a base.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bandsox_erofs::FinishError;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::build::{self, Source};
use super::directory::DirectoryError;
use super::disk::{self, DiskError, Format};
use super::identity::{ChangedError, Identity};
use super::limits::Limits;
use super::tar::TarError;
use crate::archive::{Compression, is_header};

/// A read-only image that a VM can have as its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Where it is: the user's own file, or one in `images/`.
    pub path: PathBuf,
    /// Which file system is in it.
    pub format: Format,
    /// By what a later start recognises that it is still the same.
    pub identity: Identity,
    /// For humans: the image as the user named it.
    pub label: String,
    /// An ext4 journal that was never replayed. The guest mounts it without replaying (`noload`), so recent changes to the
    /// image may be missing or torn; worth a warning.
    pub dirty_journal: bool,
}

/// Why an image could not become a base.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The image cannot be opened or read.
    #[error("could not open image {path}")]
    Open {
        /// What the user named.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Neither a file nor a directory.
    #[error("image {path} is neither a file nor a directory")]
    NotAFile {
        /// What the user named.
        path: PathBuf,
    },
    /// A file that is no disk, no tar and no directory, or a broken one.
    #[error("image {path} cannot be used")]
    Disk {
        /// What the user named.
        path: PathBuf,
        /// What is wrong with it.
        source: DiskError,
    },
    /// A tar that cannot be stored.
    #[error("archive {path} cannot be used")]
    Tar {
        /// What the user named.
        path: PathBuf,
        /// What is wrong with it.
        source: TarError,
    },
    /// A directory that cannot be stored.
    #[error("directory {path} cannot be used")]
    Directory {
        /// What the user named.
        path: PathBuf,
        /// What is wrong in it.
        source: DirectoryError,
    },
    /// The source was written to while it was read.
    #[error("image {path} changed while it was being read; try again when nothing writes to it")]
    ChangedMeanwhile {
        /// What the user named.
        path: PathBuf,
    },
    /// The image cannot be completed.
    #[error("could not build an image of {path}")]
    Build {
        /// What the user named.
        path: PathBuf,
        /// What went wrong.
        source: FinishError,
    },
    /// The finished image cannot be put in its place.
    #[error("could not store an image in {dir}")]
    Store {
        /// The images directory.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Makes `image` usable as a base; `images_dir` must exist.
///
/// A tar or directory that did not change since it was last built costs one `stat` (tar) or one walk (directory).
///
/// # Errors
///
/// [`PrepareError`]; nothing is left behind in `images_dir`.
pub fn prepare(image: &Path, images_dir: &Path, limits: &Limits) -> Result<Base, PrepareError> {
    let open_error = |source| PrepareError::Open { path: image.to_owned(), source };
    let file = open_readable(image).map_err(open_error)?;
    let kind = file.metadata().map_err(open_error)?.file_type();
    let source = if kind.is_dir() {
        Source::Directory(file)
    } else if !kind.is_file() {
        return Err(PrepareError::NotAFile { path: image.to_owned() });
    } else if is_archive(&file).map_err(open_error)? {
        Source::Tar(file)
    } else {
        return Base::of_file(image, &file);
    };
    let built = build::image_of(&source, image, images_dir, limits)?;
    let (base, _) = Base::open(&built)?;
    Ok(Base { label: image.to_string_lossy().into_owned(), ..base })
}

impl Base {
    /// Opens an existing base, read-only, and looks at what it is.
    ///
    /// The file returned is the one that was looked at, whatever the path names by then.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Open`], [`PrepareError::NotAFile`], or [`PrepareError::Disk`] if there is no whole file system in it.
    pub fn open(path: &Path) -> Result<(Self, File), PrepareError> {
        let open_error = |source| PrepareError::Open { path: path.to_owned(), source };
        let file = open_readable(path).map_err(open_error)?;
        if !file.metadata().map_err(open_error)?.is_file() {
            return Err(PrepareError::NotAFile { path: path.to_owned() });
        }
        Ok((Self::of_file(path, &file)?, file))
    }

    /// Whether this is still the image that was recorded when the VM was created.
    ///
    /// # Errors
    ///
    /// [`ChangedError`] names the first thing that differs.
    pub fn verify_unchanged(&self, recorded: &Identity) -> Result<(), ChangedError> {
        self.identity.verify_unchanged(recorded, &self.path)
    }

    fn of_file(path: &Path, file: &File) -> Result<Self, PrepareError> {
        let disk = disk::inspect(file)
            .map_err(|source| PrepareError::Disk { path: path.to_owned(), source })?;
        let identity = Identity::of(file)
            .map_err(|source| PrepareError::Open { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            format: disk.format,
            identity,
            label: path.to_string_lossy().into_owned(),
            dirty_journal: disk.dirty_journal,
        })
    }
}

/// Opens without waiting for the other end of what turns out to be a named pipe.
fn open_readable(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

/// Whether a file begins like a tar or like something compressed, which can only be a tar.
fn is_archive(file: &File) -> io::Result<bool> {
    let mut head = [0; 512];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(is_header(&head) || Compression::of(&head).is_some()),
        // Shorter than a tar's header, it may still be compressed.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let mut magic = [0; 6];
            Ok(file.read_at(&mut magic, 0)? == magic.len() && Compression::of(&magic).is_some())
        }
        Err(error) => Err(error),
    }
}
