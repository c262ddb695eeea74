//! `kernel/manifest.json`: what is installed, by name, size and digest.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Source;
use crate::digest;

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
    /// A file has the right size and the wrong content.
    #[error("{path} is damaged; run `bandsox init` again")]
    Digest {
        /// The file.
        path: PathBuf,
    },
    /// The initramfs is not one that this program makes.
    #[error("{path} cannot be read; run `bandsox init` again")]
    Initramfs {
        /// The file.
        path: PathBuf,
    },
    /// The manifest is of another version of this program.
    #[error("{path} has format {found}, this program knows format 1; run `bandsox init` again")]
    Format {
        /// The manifest.
        path: PathBuf,
        /// What it says.
        found: u32,
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
    /// Hex SHA-256 of the package that kernel and modules came from; absent for other sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source_sha256: Option<String>,
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
            source_sha256: _,
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
        let manifest: Self = match serde_json::from_slice(&text) {
            Ok(manifest) => manifest,
            Err(source) => return Err(LoadError::Manifest { path, source }),
        };
        if manifest.format != 1 {
            return Err(LoadError::Format { path, found: manifest.format });
        }
        Ok(manifest)
    }

    /// Compares every file with its digest.
    pub(super) fn verify(&self, dir: &Path) -> Result<(), LoadError> {
        for record in [&self.kernel, &self.initramfs] {
            let path = record.locate(dir)?;
            let read = File::open(&path).and_then(|mut file| digest::of_reader(&mut file));
            match read {
                Ok((found, _)) if found == record.sha256 => {}
                Ok(_) => return Err(LoadError::Digest { path }),
                Err(source) => return Err(LoadError::Io { path, source }),
            }
        }
        Ok(())
    }

    /// Whether `source` is known to give these very files.
    pub(super) fn is_from(&self, source: &Source, source_sha256: Option<&str>) -> bool {
        match source {
            Source::Installed => true,
            Source::Deb { .. } => {
                self.source_sha256.is_some() && self.source_sha256.as_deref() == source_sha256
            }
            Source::KernelAndModules { .. } | Source::Host => false,
        }
    }
}

impl FileRecord {
    /// The file's path, if it has the right size.
    pub(super) fn locate(&self, dir: &Path) -> Result<PathBuf, LoadError> {
        let path = dir.join(Path::new(&self.file).file_name().unwrap_or_default());
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
