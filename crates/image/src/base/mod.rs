//! Read-only base images: what many VMs share as the lower layer of their root.
//!
//! | the user names | becomes |
//! |---|---|
//! | a file with an ext2/3/4 file system | itself, used in place and never written |
//! | a file with an EROFS file system | itself, likewise |
//! | a tar, plain or compressed by gzip, xz or zstd | `images/<sha256>.erofs` |
//! | a directory | `images/<sha256>.erofs` |
//!
//! The layers of a container image become an `images/<sha256>.erofs` by [`from_layers`].
//!
//! What a file is, its content says, not its name.

mod add;
mod build;
mod directory;
mod disk;
mod identity;
mod layers;
mod limits;
mod prepare;
mod sources;
mod tar;

pub use add::AddError;
pub use directory::DirectoryError;
pub use disk::{DiskError, Format};
pub use identity::{ChangedError, Identity};
#[cfg(feature = "fuzzing")]
pub(crate) use layers::fill as fill_from_layers;
pub use layers::{Layer, LayerError, LayersError, Progress, from_layers};
pub use limits::Limits;
pub use prepare::{Base, PrepareError, prepare};
pub use sources::forget_lost_images;
pub use tar::TarError;
#[cfg(feature = "fuzzing")]
pub(crate) use tar::add as fill_from_tar;

pub use crate::archive::ReadError;
pub use bandsox_erofs::{FinishError, StoreError, TreeError, XattrError};
