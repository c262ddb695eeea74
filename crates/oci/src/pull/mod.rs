//! From a name to an image that is there.

mod layers;
mod resolve;

use std::error::Error;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::blobs::{FetchError, Job, Patience, fetch};
use crate::builder::BaseBuilder;
use crate::cancel::Cancel;
use crate::config::{self, ConfigError, ConfigFile};
use crate::digest::Digest;
use crate::local::LocalError;
use crate::lock::LockError;
use crate::manifest::{MAX_DOCUMENT_BYTES, Manifest, ManifestError};
use crate::platform::Platform;
use crate::progress::{Phase, Progress, Report};
use crate::record::Record;
use crate::registry::RegistrySettings;
use crate::source::{Source, shown};
use crate::store::{Image, ImageStore};

/// When to ask where an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Each time, in case the name stands for something else by now.
    Always,
    /// If it is not there.
    #[default]
    Missing,
    /// Not at all.
    Never,
}

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// For which machine.
    pub platform: Platform,
    /// How many layers at once.
    pub parallel: NonZeroUsize,
    /// How long to go on with a registry that falters.
    pub patience: Patience,
    /// Mirrors, and registries without TLS.
    pub registries: RegistrySettings,
    /// What makes a relative path in a source whole; our working directory.
    pub cwd: PathBuf,
}

impl Default for PullOptions {
    /// For linux/amd64, three layers at once, no mirrors.
    fn default() -> Self {
        Self {
            platform: Platform::default(),
            parallel: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
            patience: Patience::default(),
            registries: RegistrySettings::default(),
            cwd: std::env::current_dir().unwrap_or_default(),
        }
    }
}

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// [`Policy::Never`], and it is not there.
    #[error("image {} is not here, and is not to be pulled", shown(reference))]
    NotHere {
        /// Its canonical name.
        reference: String,
    },
    /// The name is here for another machine, and nobody is to be asked for the one that is wanted.
    #[error("image {} is here for {here}, not for {wanted}", shown(reference))]
    OtherPlatform {
        /// Its canonical name.
        reference: String,
        /// What it is for.
        here: Box<Platform>,
        /// What was asked for.
        wanted: Box<Platform>,
    },
    /// The images are being taken away.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The manifest, the config or a layer could not be had.
    #[error("could not pull {what}")]
    Fetch {
        /// What could not be had.
        what: String,
        /// Why.
        source: Box<FetchError>,
    },
    /// The manifest is not one that we can use.
    #[error("image {} cannot be used", shown(reference))]
    Manifest {
        /// Its canonical name.
        reference: String,
        /// Why.
        source: Box<ManifestError>,
    },
    /// Nor is the config.
    #[error("image {} cannot be used", shown(reference))]
    Config {
        /// Its canonical name.
        reference: String,
        /// Why.
        source: Box<ConfigError>,
    },
    /// The layout or the archive cannot be used.
    #[error("image {} cannot be used", shown(reference))]
    Local {
        /// Its canonical name.
        reference: String,
        /// Why.
        source: Box<LocalError>,
    },
    /// The layers do not make a base image.
    #[error("could not build a base of image {}", shown(reference))]
    Build {
        /// Its canonical name.
        reference: String,
        /// What the builder said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store cannot be written.
    #[error("could not store image {}", shown(reference))]
    Store {
        /// Its canonical name.
        reference: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl PullError {
    fn fetch(what: String, source: FetchError) -> Self {
        Self::Fetch { what, source: Box::new(source) }
    }

    fn local(reference: &str, source: LocalError) -> Self {
        Self::Local { reference: reference.to_owned(), source: Box::new(source) }
    }
}

/// What a name stands for, with everything but the layers in the store.
pub(crate) struct Resolved {
    pub(crate) reference: String,
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) stamp: Option<String>,
}

impl ImageStore {
    /// Sees to it that the image that `source` names is there: its blobs, its base image and its record.
    ///
    /// Blocks, for as long as it takes. Several processes may pull at once; what they have in common is done once.
    ///
    /// # Errors
    ///
    /// [`PullError`]. What had arrived whole stays for the next attempt; no record is written.
    pub fn pull(
        &self,
        source: &Source,
        policy: Policy,
        options: &PullOptions,
        builder: &dyn BaseBuilder,
        report: &Report<'_>,
    ) -> Result<Image, PullError> {
        let _kept = self.keep()?;
        let reference = source.canonical(&options.cwd);
        let asks = match policy {
            Policy::Always => true,
            // Whether a file of this host has changed is told by a look at it.
            Policy::Missing => !matches!(source, Source::Registry(_)),
            Policy::Never => false,
        };
        match self.find(&reference).filter(|_| !asks) {
            Some(image) if options.platform.accepts(&image.record.platform) => return Ok(image),
            Some(image) => {
                let (here, wanted) = (Box::new(image.record.platform), options.platform.clone());
                let wanted = Box::new(wanted);
                return Err(PullError::OtherPlatform { reference, here, wanted });
            }
            None if policy == Policy::Never => return Err(PullError::NotHere { reference }),
            None => {}
        }
        match source {
            Source::Registry(name) => self.pull_registry(name, options, builder, report),
            Source::Layout { dir, pick } => {
                self.pull_layout(reference, (dir, pick), options, builder, report)
            }
            Source::Archive { input, pick } => {
                self.pull_archive(reference, (input, pick), options, builder, report)
            }
        }
    }

    /// The image that a name had, if it still stands for the same, is for `wanted`, and all of it is there.
    fn unchanged(&self, reference: &str, manifest: &Digest, wanted: &Platform) -> Option<Image> {
        let image = self.find(reference).filter(|image| wanted.accepts(&image.record.platform))?;
        let same = image.record.manifest_digest.as_ref() == Some(manifest);
        let there = |digest: &Digest| self.blobs.size(digest).is_some();
        let whole = same && there(manifest) && image.record.layers.iter().all(there);
        whole.then_some(image)
    }

    /// Config, layers, base, record.
    pub(crate) fn complete(
        &self,
        resolved: Resolved,
        options: &PullOptions,
        builder: &dyn BaseBuilder,
        job: Job<'_>,
    ) -> Result<Image, PullError> {
        let (reference, digest) = (resolved.reference.clone(), &resolved.manifest_digest);
        if let Some(image) = self.unchanged(&reference, digest, &options.platform) {
            return Ok(image);
        }
        let file = self.config_file(&resolved, &options.platform, job)?;
        let base = match self.base_of(&resolved, &file, options.parallel, builder, job) {
            Err(PullError::Build { .. }) if self.drop_damaged(&resolved.manifest) => {
                let again = Job { cancel: &Cancel::default(), ..job };
                self.base_of(&resolved, &file, options.parallel, builder, again)?
            }
            other => other?,
        };
        let store_error = |source| PullError::Store { reference: reference.clone(), source };
        let base_name = base.strip_prefix(self.dir()).ok().and_then(Path::to_str);
        let Some(base_name) = base_name.filter(|name| !name.contains('/')) else {
            return Err(store_error(io::ErrorKind::InvalidData.into()));
        };
        let Manifest { config, layers } = resolved.manifest;
        let record = Record {
            reference: resolved.reference,
            manifest_digest: Some(resolved.manifest_digest),
            config_digest: Some(config.digest),
            base: base_name.to_owned(),
            base_length: base.metadata().ok().map(|about| about.len()),
            size: layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
            layers: layers.into_iter().map(|layer| layer.digest).collect(),
            platform: file.platform.unwrap_or_else(|| options.platform.clone()),
            created: file.created,
            pulled_at: now(),
            stamp: resolved.stamp,
        };
        self.records.write(&record).map_err(store_error)?;
        (job.report)(Progress {
            digest: None,
            phase: Phase::Done,
            done: record.size,
            total: record.size,
        });
        Ok(Image { record, base, config: file.config, ignored: file.ignored })
    }

    /// Deletes the layers that are no longer what they were when they were stored; whether there were any.
    fn drop_damaged(&self, manifest: &Manifest) -> bool {
        let mut any = false;
        for layer in &manifest.layers {
            if self.blobs.is_damaged(&layer.digest) {
                any |= crate::atomic::delete(&self.blobs.path(&layer.digest)).is_ok();
            }
        }
        any
    }

    fn config_file(
        &self,
        resolved: &Resolved,
        wanted: &Platform,
        job: Job<'_>,
    ) -> Result<ConfigFile, PullError> {
        let reference = || resolved.reference.clone();
        let Manifest { config, layers } = &resolved.manifest;
        let what = || format!("the config of {}", resolved.reference);
        fetch(job, config).map_err(|source| PullError::fetch(what(), source))?;
        let bytes = match self.blobs.document(&config.digest, MAX_DOCUMENT_BYTES) {
            Some(bytes) => bytes,
            None => {
                // It was whole when it was stored; whatever happened to it, the next pull brings it again.
                let path = self.blobs.path(&config.digest);
                crate::atomic::delete(&path)
                    .map_err(|source| PullError::Store { reference: reference(), source })?;
                fetch(job, config).map_err(|source| PullError::fetch(what(), source))?;
                self.blobs.document(&config.digest, MAX_DOCUMENT_BYTES).unwrap_or_default()
            }
        };
        let error = |source| PullError::Config { reference: reference(), source: Box::new(source) };
        let file = config::parse(&bytes).map_err(error)?;
        if file.diff_ids.len() != layers.len() {
            let (diff_ids, layers) = (file.diff_ids.len(), layers.len());
            return Err(error(ConfigError::LayerCount { diff_ids, layers }));
        }
        match &file.platform {
            Some(actual) if !wanted.accepts(actual) => {
                let (actual, wanted) = (Box::new(actual.clone()), Box::new(wanted.clone()));
                Err(error(ConfigError::Platform { actual, wanted }))
            }
            Some(_) | None => Ok(file),
        }
    }

    pub(crate) fn job<'a>(
        &'a self,
        origin: &'a dyn crate::blobs::Origin,
        cancel: &'a Cancel,
        report: &'a Report<'a>,
    ) -> Job<'a> {
        Job { blobs: &self.blobs, origin, cancel, report }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
