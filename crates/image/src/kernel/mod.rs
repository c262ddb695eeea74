//! The guest kernel in the store: `kernel/{vmlinux,initramfs.cpio,manifest.json}`.
//!
//! [`install()`] puts it there, from a Debian package, from the host's own `/boot`, or from two paths; [`Kernel::load`] finds
//! it again. Both are driven by the manifest, which is written last and names every file's digest, so that a half-done or
//! damaged installation is seen and repaired.

mod boot_image;
mod cpio;
mod deb;
mod elf;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod host;
mod initramfs;
mod install;
mod manifest;
mod modinfo;
mod modules;
mod signature;

use std::path::PathBuf;

pub use boot_image::BootImageError;
pub use cpio::TooLarge;
pub use deb::DebError;
pub use install::{InstallError, install};
pub use manifest::{Kernel, LoadError};
pub use modules::ModulesError;

pub use crate::archive::ReadError;

/// What every guest's command line should hold besides what it is told: both shorten the boot of a stock kernel.
///
/// - `cryptomgr.notests`: no self-tests of ciphers, half of what a Debian 6.1 kernel executes before it starts `/init`
///   (measured under `-icount`: 1.53 against 0.66 thousand million instructions).
/// - `no_timer_check`: no check of the timer's wiring, which on a busy host finds a fault where there is none ("MP-BIOS bug:
///   8254 timer not connected to IO-APIC") and can end in a panic.
pub const BOOT_ARGUMENTS: &str = "cryptomgr.notests no_timer_check";

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

/// Whether [`install()`] trusts what it finds in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Files that match the manifest and the source are left alone.
    No,
    /// Everything is written again.
    Yes,
}

/// What [`install()`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Whether anything on disk was written.
    pub changed: bool,
    /// What is in place now.
    pub kernel: Kernel,
}
