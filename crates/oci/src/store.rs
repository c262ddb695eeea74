//! The images of one storage directory.

use std::io;
use std::path::{Path, PathBuf};

use bandsox_spec::Ignored;

use crate::atomic;
use crate::blobs::Blobs;
use crate::config::{self, Described};
use crate::lock::{self, ImagesLock, LockError};
use crate::manifest::MAX_DOCUMENT_BYTES;
use crate::record::{Record, Records};

/// The images of one storage directory: base images, blobs, and names.
#[derive(Debug, Clone)]
pub struct ImageStore {
    images: PathBuf,
    pub(crate) blobs: Blobs,
    pub(crate) records: Records,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name, and what that stands for.
    pub record: Record,
    /// The base image.
    pub base: PathBuf,
    /// How it wants to be run; the default for one that was made of a disk or a directory.
    pub config: Described,
    /// What of its config no VM can be given.
    pub ignored: Vec<Ignored>,
}

/// Why the images could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open the images in {path}")]
pub struct OpenError {
    /// The images directory.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl ImageStore {
    /// Opens the images in `images`, the directory of that name in the storage directory, and makes what is missing.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(images: &Path) -> Result<Self, OpenError> {
        let error = |source| OpenError { path: images.to_owned(), source };
        atomic::ensure_dir(images).map_err(error)?;
        let blobs = Blobs::open(images.join("blobs")).map_err(error)?;
        let records = Records::open(images.join("refs")).map_err(error)?;
        Ok(Self { images: images.to_owned(), blobs, records })
    }

    /// Keeps everything that is there until the lock is dropped: for whoever has a base image and has not yet written down
    /// that it is used.
    ///
    /// # Errors
    ///
    /// [`LockError::File`].
    pub fn keep(&self) -> Result<ImagesLock, LockError> {
        lock::shared(&self.images)
    }

    /// The image of a canonical name, if all of it is there.
    #[must_use]
    pub fn find(&self, reference: &str) -> Option<Image> {
        self.image(self.records.find(reference)?)
    }

    pub(crate) fn image(&self, record: Record) -> Option<Image> {
        let base = self.images.join(&record.base);
        let (config, ignored) = match &record.config_digest {
            None => (Described::default(), Vec::new()),
            Some(digest) => {
                let bytes = self.blobs.document(digest, MAX_DOCUMENT_BYTES)?;
                let file = config::parse(&bytes).ok()?;
                (file.config, file.ignored)
            }
        };
        // A base that was cut short is built again; what it is made of is still there.
        let whole = |length: u64| record.base_length.is_none_or(|bytes| bytes == length);
        let about = base.symlink_metadata().ok()?;
        (about.is_file() && whole(about.len())).then_some(())?;
        Some(Image { record, base, config, ignored })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.images
    }
}
