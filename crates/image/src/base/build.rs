//! From a source to `images/<sha256>.erofs`.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bandsox_erofs::{Builder, Timestamp};

use super::limits::Limits;
use super::prepare::PrepareError;
use super::sources::{self, Key};
use super::{directory, tar};
use crate::atomic::Unnamed;
use crate::digest;

/// An open tar or directory.
pub(super) enum Source {
    Tar(File),
    Directory(File),
}

/// What a source looks like now.
struct Look {
    key: Key,
    newest: Timestamp,
}

impl Source {
    fn look(&self, path: &Path) -> Result<Look, PrepareError> {
        match self {
            Self::Tar(file) => {
                let open = |source| PrepareError::Open { path: path.to_owned(), source };
                let stat = file.metadata().map_err(open)?;
                let newest = Timestamp {
                    seconds: stat.ctime(),
                    nanos: u32::try_from(stat.ctime_nsec()).unwrap_or_default(),
                };
                let (dev, ino, size) = (stat.dev(), stat.ino(), stat.size());
                let (mtime, mtime_ns) = (stat.mtime(), stat.mtime_nsec());
                let key = format!(
                    "tar {WRITER} {dev} {ino} {size} {mtime}.{mtime_ns} {}.{}",
                    newest.seconds, newest.nanos
                );
                Ok(Look { key: Key(key), newest })
            }
            Self::Directory(root) => {
                let print = directory::fingerprint(root.as_fd())
                    .map_err(|source| PrepareError::Directory { path: path.to_owned(), source })?;
                Ok(Look {
                    key: Key(format!("directory {WRITER} {}", print.digest)),
                    newest: print.newest,
                })
            }
        }
    }

    fn fill(
        &self,
        builder: &mut Builder,
        path: &Path,
        limits: &Limits,
    ) -> Result<(), PrepareError> {
        match self {
            Self::Tar(file) => {
                let mut input = file;
                input
                    .seek(SeekFrom::Start(0))
                    .map_err(|source| PrepareError::Open { path: path.to_owned(), source })?;
                tar::add(builder, input, limits)
                    .map_err(|source| PrepareError::Tar { path: path.to_owned(), source })
            }
            Self::Directory(root) => directory::add(builder, root.as_fd())
                .map_err(|source| PrepareError::Directory { path: path.to_owned(), source }),
        }
    }
}

/// The image of `source`, which the user named as `path`: found again, or built.
pub(super) fn image_of(
    source: &Source,
    path: &Path,
    images_dir: &Path,
    limits: &Limits,
) -> Result<PathBuf, PrepareError> {
    let look = source.look(path)?;
    if let Some(image) = sources::find(images_dir, &look.key) {
        return Ok(image);
    }
    settle(look.newest);
    let store_error = |source| PrepareError::Store { dir: images_dir.to_owned(), source };
    let unnamed = Unnamed::in_dir(images_dir).map_err(store_error)?;
    let handle = unnamed.handle().map_err(store_error)?;
    let mut builder = Builder::new(handle, &limits.of_image()).map_err(store_error)?;
    source.fill(&mut builder, path, limits)?;
    let finished =
        builder.finish().map_err(|source| PrepareError::Build { path: path.to_owned(), source })?;
    if source.look(path)?.key != look.key {
        return Err(PrepareError::ChangedMeanwhile { path: path.to_owned() });
    }
    let image = name_image(unnamed, finished.file, images_dir).map_err(store_error)?;
    sources::remember(images_dir, &look.key, &image, finished.bytes).map_err(store_error)?;
    Ok(image)
}

/// Names the image by its digest.
pub(super) fn name_image(
    unnamed: Unnamed,
    mut file: File,
    images_dir: &Path,
) -> io::Result<PathBuf> {
    file.seek(SeekFrom::Start(0))?;
    let syncing = unnamed.handle()?;
    // The disk writes while the processor hashes.
    let (digest, _) = thread::scope(|scope| {
        let synced = scope.spawn(|| syncing.sync_data());
        let digest = digest::of_reader(&mut file);
        synced.join().expect("a sync does not panic").and(digest)
    })?;
    let image = images_dir.join(format!("{digest}.erofs"));
    // One of the same name and another length was cut short: no VM can be made of it, and none that is there can read it.
    let length = file.metadata()?.len();
    if fs::metadata(&image).is_ok_and(|there| there.len() != length) {
        fs::remove_file(&image)?;
    }
    // Readable by the owner alone, as it may hold anybody's secrets; writable by nobody.
    unnamed.publish_unless_there(0o400, &image)?;
    Ok(image)
}

/// Waits until a change of the source would show in its change times: those move in steps of some milliseconds, and a
/// change in the same step as the last one could not be told from it.
fn settle(newest: Timestamp) {
    let changed = u64::try_from(newest.seconds)
        .ok()
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::new(seconds, newest.nanos)));
    // A time ahead of the clock says nothing; the full wait does no harm.
    let age = changed.map(|changed| SystemTime::now().duration_since(changed).unwrap_or_default());
    if let Some(rest) = TIME_STEP.checked_sub(age.unwrap_or(TIME_STEP)) {
        thread::sleep(rest);
    }
}

/// Version of what the writer makes of a source; another one builds every image again.
pub(super) const WRITER: &str = "v1";
/// Longer than a kernel tick of any configuration (10 ms).
const TIME_STEP: Duration = Duration::from_millis(20);
