//! `kernel/manifest.json`: what is installed, by name, size and digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// An installed kernel, as the engine starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// ELF `vmlinux` with a PVH note, or the `bzImage` as it came.
    pub kernel: PathBuf,
    /// Uncompressed cpio archive: the agent as `/init`, and the modules.
    pub initramfs: PathBuf,
    /// Release, as `uname -r` prints it in the guest.
    pub version: String,
    /// Whether the guest can speak vsock; without it the agent is reached over serial.
    pub has_vsock: bool,
    /// Whether the guest can mount an EROFS base.
    pub has_erofs: bool,
    /// Hex SHA-256 of the agent in the initramfs.
    pub agent_sha256: String,
}

/// Why an installed kernel cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no manifest.
    #[error("no kernel in {dir}; run `bandsox init`")]
    Missing {
        /// Where it would be.
        dir: PathBuf,
    },
    /// The manifest cannot be understood.
    #[error("{path} is damaged; run `bandsox init` again")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// A file is missing or has another size than the manifest says.
    #[error("{path} is {found} bytes and should be {want}; run `bandsox init` again")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes, 0 if it is missing.
        found: u64,
        /// What the manifest says.
        want: u64,
    },
    /// The operating system refused.
    #[error("could not read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// `manifest.json`, version 1. Plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Version of this file's shape: 1.
    pub(super) format: u32,
    /// Kernel release.
    pub(super) version: String,
    /// The kernel image.
    pub(super) kernel: FileRecord,
    /// The initramfs.
    pub(super) initramfs: FileRecord,
    /// Hex SHA-256 of the agent inside the initramfs.
    pub(super) agent_sha256: String,
    /// Modules in the initramfs, in the order in which they are loaded.
    pub(super) modules: Vec<String>,
    /// See [`Kernel::has_vsock`].
    pub(super) has_vsock: bool,
    /// See [`Kernel::has_erofs`].
    pub(super) has_erofs: bool,
}

/// One installed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    /// Name within the kernel directory.
    pub(super) file: String,
    /// Length in bytes.
    pub(super) size: u64,
    /// Hex SHA-256.
    pub(super) sha256: String,
}

impl Kernel {
    /// Finds the kernel that was installed into `store_dir`, checking sizes but not digests (that is `install`'s).
    ///
    /// # Errors
    ///
    /// [`LoadError`]; every message says what to run.
    pub fn load(store_dir: &Path) -> Result<Self, LoadError> {
        let dir = store_dir.join(DIRECTORY);
        let manifest = Manifest::read(&dir)?;
        let Manifest {
            format: _,
            version,
            kernel,
            initramfs,
            agent_sha256,
            modules: _,
            has_vsock,
            has_erofs,
        } = manifest;
        Ok(Self {
            kernel: kernel.locate(&dir)?,
            initramfs: initramfs.locate(&dir)?,
            version,
            has_vsock,
            has_erofs,
            agent_sha256,
        })
    }
}

impl Manifest {
    /// Reads the manifest in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, LoadError> {
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                LoadError::Missing { dir: dir.to_owned() }
            } else {
                LoadError::Io { path: path.clone(), source }
            }
        })?;
        serde_json::from_slice(&text).map_err(|source| LoadError::Manifest { path, source })
    }
}

impl FileRecord {
    /// The file's path, if it has the right size.
    pub(super) fn locate(&self, dir: &Path) -> Result<PathBuf, LoadError> {
        let path = dir.join(&self.file);
        let found = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(LoadError::Io { path, source }),
        };
        if found != self.size {
            return Err(LoadError::Size { path, found, want: self.size });
        }
        Ok(path)
    }
}

/// The kernel's directory within the store.
pub(super) const DIRECTORY: &str = "kernel";
/// The manifest's name within it.
pub(super) const MANIFEST: &str = "manifest.json";
