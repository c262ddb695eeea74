//! Files that appear whole or not at all, and go the same way.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

pub(crate) use bandsox_image::atomic::{TEMP_PREFIX, sync_dir, temp_in, write};

/// Creates `dir`, for its owner alone, and what is missing above it.
pub(crate) fn ensure_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Deletes a file; that it is not there is as good.
pub(crate) fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
