//! Doors for `fuzz/`: the readers of archives, packages, kernels and modules, by themselves.

use std::fs::File;
use std::io;

use bandsox_erofs::{Builder, FinishError};

use crate::base::{LayerError, Limits, TarError, fill_from_layers, fill_from_tar};

/// Why a tar did not become an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The image's file cannot be written.
    #[error("could not write the image")]
    Image(#[from] io::Error),
    /// The tar is none, or hostile.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A layer is none, or hostile.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// It does not fit.
    #[error(transparent)]
    Finish(#[from] FinishError),
}

/// Builds the image of a (compressed) tar into `image`, and says how many bytes it has.
///
/// # Errors
///
/// See [`ImageError`].
pub fn image_of_tar(tar: &[u8], image: File, limits: &Limits) -> Result<u64, ImageError> {
    let mut builder = Builder::new(image, &limits.of_image())?;
    fill_from_tar(&mut builder, tar, limits)?;
    Ok(builder.finish()?.bytes)
}

/// Builds the image of layers, plain tars, the lowest first, into `image`, and says how many bytes it has.
///
/// # Errors
///
/// See [`ImageError`].
pub fn image_of_layers(layers: &[&[u8]], image: File, limits: &Limits) -> Result<u64, ImageError> {
    let mut builder = Builder::new(image, &limits.of_image())?;
    fill_from_layers(&mut builder, layers, limits)?;
    Ok(builder.finish()?.bytes)
}

pub use crate::kernel::fuzzing::{boot_image, module, unpack_deb};
