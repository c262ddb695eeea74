//! From a name to a manifest.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use oci_spec::distribution::Reference;

use super::{PullError, PullOptions, Resolved};
use crate::builder::BaseBuilder;
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::local::LocalError;
use crate::local::archive::{self, Nowhere, Unpacked};
use crate::local::layout::Layout;
use crate::manifest::{self, Document, MAX_DEPTH, Manifest, ManifestError};
use crate::platform::Platform;
use crate::progress::{Phase, Progress, Report};
use crate::registry::Registry;
use crate::source::{Input, Pick};
use crate::store::{Image, ImageStore};

impl ImageStore {
    pub(super) fn pull_registry(
        &self,
        name: &Reference,
        options: &PullOptions,
        builder: &dyn BaseBuilder,
        report: &Report<'_>,
    ) -> Result<Image, PullError> {
        let reference = name.whole();
        let cancel = Cancel::default();
        let what = || format!("the manifest of {reference}");
        let fetch_error = |source| PullError::fetch(what(), source);
        let registry =
            Registry::new(name, &options.registries, &options.patience).map_err(fetch_error)?;
        let first = name.digest().or(name.tag()).unwrap_or("latest").to_owned();
        let get = |name: &str| registry.manifest(name, &cancel).map_err(fetch_error);
        let (bytes, manifest) = walk(&reference, first, &options.platform, get)?;
        let manifest_digest = self
            .blobs
            .put(&bytes)
            .map_err(|source| PullError::Store { reference: reference.clone(), source })?;
        let resolved = Resolved { reference, manifest_digest, manifest, stamp: None };
        self.complete(resolved, options, builder, self.job(&registry, &cancel, report))
    }
}

impl ImageStore {
    pub(crate) fn pull_layout(
        &self,
        reference: String,
        (dir, pick): (&Path, &Pick),
        options: &PullOptions,
        builder: &dyn BaseBuilder,
        report: &Report<'_>,
    ) -> Result<Image, PullError> {
        let local = |source| PullError::local(&reference, source);
        let layout = Layout::open(options.cwd.join(dir)).map_err(local)?;
        let (bytes, manifest) = layout.manifest(pick, &options.platform).map_err(local)?;
        let manifest_digest = self
            .blobs
            .put(&bytes)
            .map_err(|source| PullError::Store { reference: reference.clone(), source })?;
        let cancel = Cancel::default();
        let resolved = Resolved { reference, manifest_digest, manifest, stamp: None };
        self.complete(resolved, options, builder, self.job(&layout, &cancel, report))
    }

    pub(super) fn pull_archive(
        &self,
        reference: String,
        (input, pick): (&Input, &Pick),
        options: &PullOptions,
        builder: &dyn BaseBuilder,
        report: &Report<'_>,
    ) -> Result<Image, PullError> {
        let Input::File(path) = input else {
            return self.add_archive(
                None,
                (&mut io::stdin().lock(), pick, None),
                options,
                builder,
                report,
            );
        };
        let path = options.cwd.join(path);
        let local = |source| {
            let source = LocalError::File { path: path.clone(), source };
            PullError::local(&reference, source)
        };
        let mut file = File::open(&path).map_err(local)?;
        let stamp = stamp(&file.metadata().map_err(local)?);
        if let Some(image) = self.find(&reference)
            && image.record.stamp.as_ref() == Some(&stamp)
            && options.platform.accepts(&image.record.platform)
        {
            return Ok(image);
        }
        let from: (&mut dyn Read, _, _) = (&mut file, pick, Some(stamp));
        self.add_archive(Some(reference), from, options, builder, report)
    }

    /// Reads an archive. Without a name it gets the one that the archive says, or one by its digest.
    pub(crate) fn add_archive(
        &self,
        reference: Option<String>,
        (input, pick, stamp): (&mut dyn Read, &Pick, Option<String>),
        options: &PullOptions,
        builder: &dyn BaseBuilder,
        report: &Report<'_>,
    ) -> Result<Image, PullError> {
        let shown = reference.clone().unwrap_or_else(|| "docker-archive:-".to_owned());
        let mut done = 0u64;
        let mut progress = |bytes| {
            done = done.saturating_add(bytes);
            report(Progress { digest: None, phase: Phase::Pulling, done, total: 0 });
        };
        let unpacked = archive::unpack(&self.blobs, input, pick, &options.platform, &mut progress)
            .map_err(|source| PullError::local(&shown, source))?;
        let Unpacked { bytes, manifest, name } = unpacked;
        let manifest_digest = self
            .blobs
            .put(&bytes)
            .map_err(|source| PullError::Store { reference: shown, source })?;
        let by_digest = || format!("docker-archive:@{manifest_digest}");
        let reference = reference.or(name).unwrap_or_else(by_digest);
        let cancel = Cancel::default();
        let resolved = Resolved { reference, manifest_digest, manifest, stamp };
        self.complete(resolved, options, builder, self.job(&Nowhere::new(), &cancel, report))
    }
}

/// What changes when somebody writes to a file.
fn stamp(about: &Metadata) -> String {
    let (dev, ino, size) = (about.dev(), about.ino(), about.size());
    let (mtime, ctime) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    format!("{dev} {ino} {size} {}.{} {}.{}", mtime.0, mtime.1, ctime.0, ctime.1)
}

/// Follows indexes to the manifest for `platform`.
pub(super) fn walk(
    reference: &str,
    first: String,
    platform: &Platform,
    get: impl Fn(&str) -> Result<Vec<u8>, PullError>,
) -> Result<(Vec<u8>, Manifest), PullError> {
    let error =
        |source| PullError::Manifest { reference: reference.to_owned(), source: Box::new(source) };
    let mut name = first;
    for _ in 0..MAX_DEPTH {
        let bytes = get(&name)?;
        match manifest::parse(&bytes).map_err(error)? {
            Document::Image(manifest) => return Ok((bytes, manifest)),
            Document::Index(entries) => {
                let entry = manifest::select(&entries, platform).map_err(error)?;
                let digest: &Digest = &entry.descriptor.digest;
                name = digest.to_string();
            }
        }
    }
    Err(error(ManifestError::TooDeep))
}
