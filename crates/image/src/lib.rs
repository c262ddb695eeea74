//! Kernels, initramfs, base images and overlays: everything that is on disk before a VM can start.
//!
//! - [`kernel`] puts a guest kernel and our initramfs into the store, and finds them again.
//! - [`base`] turns what the user names (an ext4 file, a tar, a directory) into a read-only base image that all VMs share.
//! - [`overlay`] makes the sparse writable disk of one VM.
//! - [`Archive`] reads tar archives of strangers.
//! - [`atomic`] and [`digest`] are how files get their names, here and in the crates above.
//!
//! Whatever is written here is written under a temporary name, synced and renamed, so that a killed process leaves either
//! the old file or the new one.

pub mod atomic;
pub mod base;
pub mod digest;
pub mod kernel;
pub mod overlay;

mod archive;

pub use archive::{Archive, Kind, Member, ReadError, decoder};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
