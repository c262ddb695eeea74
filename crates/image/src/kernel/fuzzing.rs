//! Doors for `fuzz/` to the readers of packages, kernels and modules.

use std::path::Path;

use super::boot_image::{BootImage, BootImageError};
use super::deb::{self, DebError};
use super::modinfo::ModInfo;
use super::signature;

/// The kernel in the package at `file`; its modules go into `scratch`.
///
/// # Errors
///
/// See [`DebError`].
pub fn unpack_deb(file: &Path, scratch: &Path) -> Result<Vec<u8>, DebError> {
    deb::unpack(file, scratch).map(|unpacked| unpacked.kernel)
}

/// Release and bytes of what would be started.
///
/// # Errors
///
/// See [`BootImageError`].
pub fn boot_image(bytes: Vec<u8>) -> Result<(String, Vec<u8>), BootImageError> {
    BootImage::from_file(bytes).map(|image| (image.version, image.bytes))
}

/// Names that a module says it needs, and its bytes without a signature; `None` if it is no module.
#[must_use]
pub fn module(bytes: Vec<u8>) -> Option<(Vec<String>, Vec<u8>)> {
    let ModInfo { depends, soft_before, release: _ } = ModInfo::of(&bytes)?;
    Some(([depends, soft_before].concat(), signature::without(bytes)))
}
