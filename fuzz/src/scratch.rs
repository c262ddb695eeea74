//! A directory to lose, and one beside it that must stay as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// `inner`, where anything may happen, and what stands around it.
pub(crate) struct Scratch {
    outer: TempDir,
    before: Vec<String>,
}

impl Scratch {
    /// On a file system that has no disk to wait for, where there is one.
    pub(crate) fn new() -> Self {
        let outer = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let outer = outer.expect("a directory");
        fs::create_dir(outer.path().join("inner")).expect("makes");
        fs::create_dir(outer.path().join("outside")).expect("makes");
        fs::write(outer.path().join("outside/canary"), b"alive").expect("writes");
        fs::write(outer.path().join("canary"), b"alive").expect("writes");
        let before = Self::surroundings(outer.path());
        Self { outer, before }
    }

    pub(crate) fn inner(&self) -> PathBuf {
        self.outer.path().join("inner")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.outer.path().join("outside")
    }

    /// Panics if anything but the inside of `inner` has changed.
    pub(crate) fn assert_unharmed(&self) {
        assert_eq!(Self::surroundings(self.outer.path()), self.before);
    }

    fn surroundings(outer: &Path) -> Vec<String> {
        let mut all = vec![describe(outer)];
        for entry in fs::read_dir(outer).expect("lists") {
            let path = entry.expect("lists").path();
            if path.ends_with("inner") {
                // What happens to its content shows in its times; its kind and its mode must stay.
                let about = fs::symlink_metadata(&path).expect("it is there");
                all.push(format!("inner {:o} {}", about.mode(), about.ino()));
                continue;
            }
            all.push(describe(&path));
            if path.is_dir() {
                for entry in fs::read_dir(&path).expect("lists") {
                    all.push(describe(&entry.expect("lists").path()));
                }
            }
        }
        all.sort();
        all
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Directories that were received without permissions cannot be emptied by an ordinary user.
        open_up(&self.inner());
    }
}

/// Calls `each` with everything below `dir`.
pub(crate) fn walk(dir: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        each(&path, &about);
        if about.is_dir() {
            walk(&path, each);
        }
    }
}

fn describe(path: &Path) -> String {
    let about = fs::symlink_metadata(path).expect("it is there");
    let content = if about.is_file() { fs::read(path).expect("reads") } else { Vec::new() };
    let (mtime, nanos) = (about.mtime(), about.mtime_nsec());
    let (mode, owner) = (about.mode(), (about.uid(), about.gid()));
    format!("{} {mode:o} {owner:?} {mtime}.{nanos} {content:?}", path.display())
}

fn open_up(dir: &Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o700)).ok();
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
