//! Layers of a container image, straight into one base image.
//!
//! The layers are applied from the lowest to the highest, as OCI image-spec's `layer.md` says. Nothing is unpacked on the
//! host: contents go to the image as they are decompressed, and names live in the image's tree only.

mod changes;
mod content;
mod error;
mod whiteout;

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bandsox_erofs::Builder;

use super::build;
use super::limits::Limits;
use super::prepare::Base;
use super::sources::{self, Key};
use super::tar::TarError;
use crate::archive::ReadError;
use crate::atomic::Unnamed;

use changes::Changes;
use content::Content;
pub use error::{LayerError, LayersError};

/// One layer of an image.
#[derive(Debug)]
pub struct Layer {
    /// A tar, plain or compressed by gzip or zstd, from the file's first byte to its last. Where it is positioned does
    /// not matter.
    pub blob: File,
    /// What to call it in messages, such as its digest.
    pub label: String,
    /// `sha256:` and the hex digest of the decompressed layer, if it is to be checked.
    pub diff_id: Option<String>,
}

/// How far [`from_layers`] has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A layer is being applied.
    Layer {
        /// Which one, counted from 0.
        index: usize,
        /// Its label.
        label: &'a str,
        /// Bytes of its blob that have been read.
        done_bytes: u64,
        /// Bytes of its blob; `done_bytes` reaches them when the layer is in the image.
        total_bytes: u64,
    },
    /// All layers are in; the image is being completed and made durable.
    Finishing,
}

/// Makes one base image of `layers`, the lowest first; `images_dir` must exist.
///
/// `key` says in any words which layers these are: equal keys, equal layers. If they were built before, that image is
/// returned and `layers` is not looked at. A layer is applied before the next one is asked for, so that the iterator may
/// wait for a download meanwhile.
///
/// The same layers give the same image, whatever they are compressed by.
///
/// # Errors
///
/// [`LayersError`]; nothing is left behind in `images_dir`.
pub fn from_layers<E: Error + 'static>(
    layers: impl Iterator<Item = Result<Layer, E>>,
    key: &str,
    images_dir: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Base, LayersError<E>> {
    let store_error = |source| LayersError::Store { dir: images_dir.to_owned(), source };
    let source = Key(format!("layers {} {key}", build::WRITER));
    let image = match sources::find(images_dir, &source) {
        Some(image) => image,
        None => {
            let unnamed = Unnamed::in_dir(images_dir).map_err(store_error)?;
            let handle = unnamed.handle().map_err(store_error)?;
            let mut builder = Builder::new(handle, &limits.of_image()).map_err(store_error)?;
            let mut left = limits.clone();
            for (index, layer) in layers.enumerate() {
                let layer = layer.map_err(LayersError::Source)?;
                let read = apply(&mut builder, index, &layer, &left, progress)
                    .map_err(|source| LayersError::Layer { label: layer.label, source })?;
                left.source_bytes = left.source_bytes.saturating_sub(read);
            }
            progress(Progress::Finishing);
            let finished = builder.finish().map_err(LayersError::Build)?;
            let image =
                build::name_image(unnamed, finished.file, images_dir).map_err(store_error)?;
            sources::remember(images_dir, &source, &image, finished.bytes).map_err(store_error)?;
            image
        }
    };
    let (base, _) = Base::open(&image).map_err(LayersError::Open)?;
    Ok(Base { label: key.to_owned(), ..base })
}

/// Applies layers that are in memory, without checks of their digests.
#[cfg(feature = "fuzzing")]
pub(crate) fn fill(
    builder: &mut Builder,
    layers: &[&[u8]],
    limits: &Limits,
) -> Result<(), LayerError> {
    for layer in layers {
        Changes::read(builder, *layer, limits)?.apply(&mut builder.tree)?;
    }
    Ok(())
}

/// Applies one layer and says how many bytes it had, decompressed.
fn apply(
    builder: &mut Builder,
    index: usize,
    layer: &Layer,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<u64, LayerError> {
    let want = layer.diff_id.as_deref().map(hex_of).transpose()?;
    // Only for the progress: what cannot be asked for its size cannot be read either, and that is reported.
    let total_bytes = layer.blob.metadata().map_or(0, |metadata| metadata.len());
    let consumed = AtomicU64::new(0);
    let mut report = |done_bytes| {
        progress(Progress::Layer { index, label: &layer.label, done_bytes, total_bytes });
    };
    report(0);
    let read = thread::scope(|scope| {
        // The last bytes count only when the layer is applied.
        let mut on_chunk = || {
            let consumed = consumed.load(Ordering::Relaxed);
            report(consumed.min(total_bytes.saturating_sub(1)));
        };
        let (decompressor, content) = content::pipe(limits.source_bytes, &mut on_chunk);
        let consumed = &consumed;
        scope.spawn(move || decompressor.run(&layer.blob, consumed));
        apply_content(builder, content, want, limits)
    })?;
    report(total_bytes);
    Ok(read)
}

fn apply_content(
    builder: &mut Builder,
    mut content: Content<'_>,
    want: Option<&str>,
    limits: &Limits,
) -> Result<u64, LayerError> {
    let changes = Changes::read(builder, &mut content, limits)?;
    let rest = content.drain();
    let offset = content.position();
    match rest
        .map_err(|source| LayerError::Tar(TarError::Read(ReadError::Io { offset, source })))?
    {
        Some(offset) => return Err(LayerError::Trailing { offset }),
        None => changes.apply(&mut builder.tree)?,
    }
    let (got, read) = content.finish();
    match want {
        Some(want) if want != got => Err(LayerError::WrongDiffId { want: want.to_owned(), got }),
        Some(_) | None => Ok(read),
    }
}

/// The hex digits of a digest.
fn hex_of(diff_id: &str) -> Result<&str, LayerError> {
    let hex = diff_id.strip_prefix("sha256:").filter(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    hex.ok_or_else(|| LayerError::UnknownDiffId { diff_id: diff_id.to_owned() })
}

#[cfg(test)]
mod tests;
