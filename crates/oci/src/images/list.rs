//! Which images there are, and which one is meant.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::allocated;
use crate::config::Described;
use crate::record::Record;
use crate::source::{Source, SourceError, shown};
use crate::store::ImageStore;

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The name, and what it stands for.
    #[serde(flatten)]
    pub record: Record,
    /// Whether the base image and the config are there; if not, the next pull brings them.
    pub complete: bool,
    /// What the base image takes on disk. Unit: bytes.
    pub base_bytes: u64,
}

/// Everything about one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// As in a list.
    #[serde(flatten)]
    pub listed: Listed,
    /// Where the base image is, or would be.
    pub base_path: PathBuf,
    /// How it wants to be run; `None` if that is not there.
    pub config: Option<Described>,
    /// What of its config no VM can be given, and why.
    pub ignored: Vec<String>,
    /// Other names for the same base.
    pub also_known_as: Vec<String>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("could not read the images in {path}")]
pub struct ListError {
    /// The records' directory.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Why no image is meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The records cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// Not a name.
    #[error(transparent)]
    Name(#[from] SourceError),
    /// No image has that name or digest.
    #[error("there is no image {:?} here", shown(name))]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// A digest, or the beginning of one, of several.
    #[error("{:?} stands for several images: {}", shown(name), .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their names.
        candidates: Vec<String>,
    },
}

impl ImageStore {
    /// All images, by name.
    ///
    /// # Errors
    ///
    /// [`ListError`]. Damaged records are left out; [`ImageStore::prune`] removes them.
    pub fn list(&self) -> Result<Vec<Listed>, ListError> {
        Ok(self.all_records()?.into_iter().map(|record| self.listed(record)).collect())
    }

    /// Everything about the image that `name` stands for: a name, or the digest of a manifest or of a base image, or at least
    /// six hex digits of its beginning.
    ///
    /// # Errors
    ///
    /// [`ResolveError`].
    pub fn inspect(&self, name: &str, cwd: &Path) -> Result<Inspected, ResolveError> {
        let record = self.resolve(name, cwd)?;
        let others = self.all_records()?.into_iter();
        let others = others.filter(|it| it.base == record.base && it.reference != record.reference);
        let also_known_as = others.map(|it| it.reference).collect();
        let base_path = self.dir().join(&record.base);
        let (config, ignored) =
            self.image(record.clone()).map(|image| (image.config, image.ignored)).unzip();
        let ignored = ignored.iter().flatten().map(ToString::to_string).collect();
        Ok(Inspected { listed: self.listed(record), base_path, config, ignored, also_known_as })
    }

    /// The record that a name or a digest stands for.
    ///
    /// # Errors
    ///
    /// [`ResolveError`].
    pub fn resolve(&self, name: &str, cwd: &Path) -> Result<Record, ResolveError> {
        let records = self.all_records()?;
        let parsed = Source::of_host(name, cwd);
        let canonical = parsed.as_ref().map(|source| source.canonical(cwd)).unwrap_or_default();
        let by_name = |record: &&Record| record.reference == canonical || record.reference == name;
        if let Some(record) = records.iter().find(by_name) {
            return Ok(record.clone());
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = hex.len() >= 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fits = |record: &&Record| {
            let manifest = record.manifest_digest.as_ref();
            is_hex
                && (record.base.starts_with(hex)
                    || manifest.is_some_and(|digest| digest.hex().starts_with(hex)))
        };
        let found: Vec<&Record> = records.iter().filter(fits).collect();
        match (found.as_slice(), parsed) {
            ([record], _) => Ok((*record).clone()),
            ([], Err(error)) if !is_hex => Err(error.into()),
            ([], _) => Err(ResolveError::NotFound { name: name.to_owned() }),
            (several, _) => Err(ResolveError::Ambiguous {
                name: name.to_owned(),
                candidates: several.iter().map(|record| record.reference.clone()).collect(),
            }),
        }
    }

    fn all_records(&self) -> Result<Vec<Record>, ListError> {
        let error = |source| ListError { path: self.records.dir().to_owned(), source };
        Ok(self.records.all().map_err(error)?.whole)
    }

    fn listed(&self, record: Record) -> Listed {
        let base_bytes = allocated(&self.dir().join(&record.base));
        Listed { complete: self.image(record.clone()).is_some(), base_bytes, record }
    }
}
