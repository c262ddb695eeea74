//! What was built before: `images/.sources/<key>.json`, one small file for each tar or directory.
//!
//! A record is only a hint. It says that a source which looks just so gave that image; without it the image is built again,
//! to the same name.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{atomic, digest};

/// What a source looked like, as text; equal text, equal image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) String);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// File name in the images directory.
    image: String,
    /// Its length in bytes.
    bytes: u64,
}

/// The image that the source gave before, if it is still there.
pub(super) fn find(images_dir: &Path, key: &Key) -> Option<PathBuf> {
    let text = fs::read(record_path(images_dir, key)).ok()?;
    let Record { image, bytes } = serde_json::from_slice(&text).ok()?;
    let image = images_dir.join(Path::new(&image).file_name()?);
    (fs::metadata(&image).ok()?.len() == bytes).then_some(image)
}

/// Remembers that the source gave `image`.
pub(super) fn remember(images_dir: &Path, key: &Key, image: &Path, bytes: u64) -> io::Result<()> {
    let path = record_path(images_dir, key);
    let image = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let json = serde_json::to_vec(&Record { image, bytes })?;
    let dir = images_dir.join(DIRECTORY);
    atomic::ensure_dir(&dir)?;
    // Keys tell paths of this host.
    fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
    atomic::write(&path, 0o600, &json)
}

/// Deletes the records of images that are not there any more, and what interrupted writes left; says which files went.
///
/// The caller sees to it that nobody remembers anything meanwhile.
///
/// # Errors
///
/// What the operating system says.
pub fn forget_lost_images(images_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(images_dir.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut forgotten = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let image = || {
            let record: Record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            images_dir.join(Path::new(&record.image).file_name()?).symlink_metadata().ok()
        };
        if image().is_none() {
            fs::remove_file(&path)?;
            forgotten.push(path);
        }
    }
    forgotten.sort();
    Ok(forgotten)
}

fn record_path(images_dir: &Path, key: &Key) -> PathBuf {
    images_dir.join(DIRECTORY).join(format!("{}.json", digest::of_bytes(key.0.as_bytes())))
}

const DIRECTORY: &str = ".sources";
