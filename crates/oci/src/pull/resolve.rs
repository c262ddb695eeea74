//! From a name to a manifest.

use oci_spec::distribution::Reference;

use super::{PullError, PullOptions, Resolved};
use crate::builder::BaseBuilder;
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::manifest::{self, Document, MAX_DEPTH, Manifest, ManifestError};
use crate::platform::Platform;
use crate::progress::Report;
use crate::registry::Registry;
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
        let fetch_error = |source| PullError::Fetch { what: what(), source };
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

/// Follows indexes to the manifest for `platform`.
pub(super) fn walk(
    reference: &str,
    first: String,
    platform: &Platform,
    get: impl Fn(&str) -> Result<Vec<u8>, PullError>,
) -> Result<(Vec<u8>, Manifest), PullError> {
    let error = |source| PullError::Manifest { reference: reference.to_owned(), source };
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
