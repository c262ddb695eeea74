//! Files that appear whole or not at all: temporary name, sync, rename, sync of the directory.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

/// Prefix of temporary names; whoever cleans a directory up may delete what begins so and is old.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// A new temporary file in `dir`, mode 0600, deleted again unless [`publish`] gets it.
pub(crate) fn temp_in(dir: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(dir)
}

/// Gives `file` its mode and its final name, durably. Replaces what was there.
pub(crate) fn publish(file: NamedTempFile, mode: u32, dest: &Path) -> io::Result<()> {
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(dest).map_err(|error| error.error)?;
    sync_parent(dest)
}

/// Writes `bytes` as `dest`, durably.
pub(crate) fn write(dest: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = temp_in(parent_of(dest))?;
    file.write_all(bytes)?;
    publish(file, mode, dest)
}

/// Makes the entry of `path` in its directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent_of(path))
}

/// Makes the entries of `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and what is missing above it; what exists keeps its mode.
pub(crate) fn ensure_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_replaces_the_old_one_and_leaves_no_temporary_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dest = dir.path().join("file");
        write(&dest, 0o600, b"old").expect("writes");

        write(&dest, 0o640, b"new").expect("writes");

        assert_eq!(fs::read(&dest).expect("reads"), b"new");
        assert_eq!(fs::metadata(&dest).expect("stats").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }
}
