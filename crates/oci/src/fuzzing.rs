//! Doors for `fuzz/`: the readers of manifests, configs and archives, by themselves.

use std::io;
use std::path::Path;

use bandsox_spec::ImageConfig;

use crate::blobs::Blobs;
use crate::config;
use crate::digest::Digest;
use crate::local::archive::{self, Unpacked};
use crate::manifest::{self, Document};
pub use crate::manifest::{Descriptor, MAX_DOCUMENT_BYTES, MAX_LAYER_BYTES, MAX_LAYERS, Manifest};
use crate::platform::Platform;
use crate::source::Pick;

/// What an index or a manifest says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// An image.
    Image(Manifest),
    /// An index, and the platform of what it has for the wanted one; `None` without a platform.
    Chosen(Option<Platform>),
}

/// Reads a manifest or an index.
#[must_use]
pub fn document(bytes: &[u8], wanted: &Platform) -> Option<Said> {
    match manifest::parse(bytes).ok()? {
        Document::Image(manifest) => Some(Said::Image(manifest)),
        Document::Index(entries) => {
            let entry = manifest::select(&entries, wanted).ok()?;
            Some(Said::Chosen(entry.platform.clone()))
        }
    }
}

/// A manifest as we write it.
///
/// # Panics
///
/// When it cannot be JSON, which would be an error of ours.
#[must_use]
pub fn written(manifest: &Manifest) -> Vec<u8> {
    archive::manifest_bytes(&manifest.config, &manifest.layers).expect("numbers and text")
}

/// Reads a config.
#[must_use]
pub fn config(bytes: &[u8]) -> Option<ImageConfig> {
    config::parse(bytes).ok().map(|file| file.config.honoured)
}

/// Reads an archive of at most `most` bytes into the blobs below `dir`; gives the digests of the image in it.
///
/// # Errors
///
/// When the directory cannot be written.
pub fn unpack(dir: &Path, mut bytes: &[u8], most: u64) -> io::Result<Option<Vec<Digest>>> {
    let blobs = Blobs::open(dir.to_owned())?;
    let platform = Platform::default();
    let unpacked =
        archive::unpack_within(most, &blobs, &mut bytes, (&Pick::Only, &platform), &mut |_| {});
    Ok(unpacked.ok().map(|Unpacked { manifest: Manifest { config, layers }, .. }| {
        let layers = layers.into_iter().map(|layer| layer.digest);
        std::iter::once(config.digest).chain(layers).collect()
    }))
}
