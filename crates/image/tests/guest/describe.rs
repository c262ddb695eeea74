//! Describes everything below a directory, one line a file: run on the host over what went into an image and in the guest
//! over what came out, the two descriptions must be equal.
//!
//! Compiled on its own, static, by the test that uses it: it has to run in an initramfs that holds nothing else.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::fmt::Write as _;
use std::fs;
use std::hash::Hasher as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn llistxattr(path: *const c_char, list: *mut c_void, size: usize) -> isize;
    fn lgetxattr(path: *const c_char, name: *const c_char, value: *mut c_void, size: usize) -> isize;
}

fn main() {
    let root = PathBuf::from(std::env::args_os().nth(1).expect("a directory"));
    let mut out = String::new();
    let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative);
        let metadata = fs::symlink_metadata(&path).expect("stats");
        let kind = metadata.file_type();
        write!(
            out,
            "{relative:?} mode={:o} uid={} gid={} nlink={} mtime={}.{:09}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.nlink(),
            metadata.mtime(),
            metadata.mtime_nsec()
        )
        .expect("fits");
        if kind.is_dir() {
            let names = fs::read_dir(&path).expect("lists").map(|entry| entry.expect("lists").file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            pending.extend(names.iter().rev().map(|name| relative.join(name)));
        } else if kind.is_file() {
            write!(out, " size={} content={:016x}", metadata.len(), hash(&path)).expect("fits");
        } else if kind.is_symlink() {
            write!(out, " target={:?}", fs::read_link(&path).expect("reads")).expect("fits");
        } else if kind.is_char_device() || kind.is_block_device() {
            write!(out, " rdev={:x}", metadata.rdev()).expect("fits");
        }
        if !kind.is_dir() && metadata.nlink() > 1 {
            let first = first_names.entry((metadata.dev(), metadata.ino())).or_insert_with(|| relative.clone());
            write!(out, " same-as={first:?}").expect("fits");
        }
        for (name, value) in xattrs(&path) {
            write!(out, " {name}={value:?}").expect("fits");
        }
        out.push('\n');
    }
    print!("{out}");
}

/// The hash only has to be the same on both sides. Of a file of gigabytes, a piece every 512 MiB and the end are hashed: an
/// emulated guest reads some tens of megabytes a second.
fn hash(path: &Path) -> u64 {
    let file = fs::File::open(path).expect("opens");
    let size = file.metadata().expect("stats").len();
    let (piece, step) = if size > 1 << 30 { (64 << 10, 512 << 20) } else { (1 << 20, 1 << 20) };
    let mut hasher = std::hash::DefaultHasher::new();
    let mut buffer = vec![0; piece];
    let mut hash_at = |at: u64| {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], at + filled as u64).expect("reads") {
                0 => break,
                got => filled += got,
            }
        }
        hasher.write(&buffer[..filled]);
    };
    (0..size).step_by(step).for_each(&mut hash_at);
    hash_at(size.saturating_sub(piece as u64));
    hasher.finish()
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let mut names = vec![0u8; 65_536];
    // SAFETY: the path ends with a NUL and the buffer is as long as it is said to be.
    let length = unsafe { llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(length).unwrap_or(0));
    let mut pairs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let c_name = CString::new(name).expect("no NUL");
        let mut value = vec![0u8; 65_536];
        // SAFETY: both strings end with a NUL and the buffer is as long as it is said to be.
        let length = unsafe { lgetxattr(path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(usize::try_from(length).expect("an attribute that was listed can be read"));
        pairs.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    pairs.sort();
    pairs
}
