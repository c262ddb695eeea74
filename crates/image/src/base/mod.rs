//! Read-only base images: what many VMs share as the lower layer of their root.
//!
//! | the user names | becomes |
//! |---|---|
//! | a file with an ext2/3/4 file system | itself, used in place and never written |
//! | a file with an EROFS file system | itself, likewise |
//! | a tar, plain or compressed by gzip, xz or zstd | `images/<sha256>.erofs` |
//! | a directory | `images/<sha256>.erofs` |
//!
//! What a file is, its content says, not its name.

mod disk;
mod identity;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use disk::{DiskError, Format};
pub use identity::{ChangedError, Identity};

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

/// Bounds on what an untrusted archive or directory may make us build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most files, directories and other entries in all.
    pub entries: u64,
    /// Largest single file, in bytes as the guest sees it (holes included).
    pub file_bytes: u64,
    /// Most bytes that are read out of the source, after decompression, holes of sparse files not counted.
    pub source_bytes: u64,
    /// Largest image, in bytes.
    pub image_bytes: u64,
    /// Most bytes of names, link targets, extended attributes and small file contents, which are held in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    /// 4 million entries, files of 16 TiB, 256 GiB read, an image of 64 GiB, 1 GiB of metadata.
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            file_bytes: 16 << 40,
            source_bytes: 256 << 30,
            image_bytes: 64 << 30,
            metadata_bytes: 1 << 30,
        }
    }
}

/// Why an image could not become a base.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The image cannot be opened.
    #[error("could not open image {path}")]
    Open {
        /// What the user named.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that is no disk, no tar and no directory, or a broken one.
    #[error("image {path} cannot be used")]
    Disk {
        /// What the user named.
        path: PathBuf,
        /// What is wrong with it.
        source: DiskError,
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
    // Built images are added by the tar and directory paths.
    let _ = (images_dir, limits);
    Base::open(image).map(|(base, _)| base)
}

impl Base {
    /// Opens an existing base, read-only, and looks at what it is.
    ///
    /// The file returned is the one that was looked at, whatever the path names by then.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Open`], or [`PrepareError::Disk`] if there is no whole file system in it.
    pub fn open(path: &Path) -> Result<(Self, File), PrepareError> {
        let open_error = |source| PrepareError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open_error)?;
        let disk = disk::inspect(&file)
            .map_err(|source| PrepareError::Disk { path: path.to_owned(), source })?;
        let identity = Identity::of(&file).map_err(open_error)?;
        let base = Self {
            path: path.to_owned(),
            format: disk.format,
            identity,
            label: path.to_string_lossy().into_owned(),
            dirty_journal: disk.dirty_journal,
        };
        Ok((base, file))
    }

    /// Whether this is still the image that was recorded when the VM was created.
    ///
    /// # Errors
    ///
    /// [`ChangedError`] names the first thing that differs.
    pub fn verify_unchanged(&self, recorded: &Identity) -> Result<(), ChangedError> {
        self.identity.verify_unchanged(recorded, &self.path)
    }
}
