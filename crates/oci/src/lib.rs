//! OCI images: from `ubuntu:latest` to a base image that VMs share.
//!
//! - [`Source`] is what the user names an image by: a name in a registry, an OCI layout, a Docker archive.
//! - [`ImageStore`] is what is kept: [`ImageStore::pull`] brings an image, and there are verbs to list, inspect, remove, import
//!   and export what is there.
//! - [`Described`] is how an image wants to be run.
//!
//! Every byte is checked against its digest before it gets a name. The base image itself is made by a [`BaseBuilder`], [`Layers`].

mod atomic;
mod blobs;
mod builder;
mod cancel;
mod config;
mod digest;
mod images;
mod layers;
mod local;
mod lock;
mod manifest;
mod name;
mod platform;
mod progress;
mod pull;
mod record;
mod registry;
mod source;
mod store;

pub use bandsox_spec::{Ignored, ImageConfig};
pub use blobs::{FetchError, Patience};
pub use builder::{BaseBuilder, Layer, LayerMissing};
pub use config::{ConfigError, Described};
pub use digest::{Digest, DigestError};
pub use images::{
    Destination, ExportError, ImportError, InUse, Inspected, ListError, Listed, Output, PruneError,
    Pruned, PrunedItem, PrunedKind, RemoveError, Removed, ResolveError,
};
pub use layers::Layers;
pub use local::LocalError;
pub use lock::{ImagesLock, LockError};
pub use manifest::{
    Descriptor, MAX_DOCUMENT_BYTES, MAX_LAYER_BYTES, MAX_LAYERS, Manifest, ManifestError,
};
pub use name::registry_name;
pub use oci_spec::distribution::Reference;
pub use platform::{Platform, PlatformError};
pub use progress::{Phase, Progress, Report};
pub use pull::{Policy, PullError, PullOptions};
pub use record::Record;
pub use registry::{
    CredentialError, Mirror, RegistrySettings, SettingsError, TokenError, Unreachable,
};
pub use source::{Input, Kind, Pick, Source, SourceError, classify, shown};
pub use store::{Image, ImageStore, OpenError};

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
