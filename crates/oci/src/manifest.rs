//! Manifests and indexes, OCI's and Docker's, as untrusted text.

use oci_spec::image::{Descriptor as SpecDescriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use crate::digest::{Digest, DigestError};
use crate::platform::Platform;

/// Most bytes of a manifest, an index or a config.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Most layers of an image.
pub const MAX_LAYERS: usize = 512;
/// Largest layer, as it is stored. Unit: bytes.
pub const MAX_LAYER_BYTES: u64 = 64 << 30;
/// Largest archive of an image, decompressed. Unit: bytes.
pub(crate) const MAX_ARCHIVE_BYTES: u64 = 256 << 30;

/// What a manifest or an index says about a piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
}

/// An image: a config, and layers from the lowest up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Environment, command and the rest.
    pub config: Descriptor,
    /// At least one.
    pub layers: Vec<Descriptor>,
}

/// One image of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) descriptor: Descriptor,
    pub(crate) platform: Option<Platform>,
    /// The annotation `org.opencontainers.image.ref.name`.
    pub(crate) name: Option<String>,
}

/// What a registry or a layout has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Image(Manifest),
    Index(Vec<IndexEntry>),
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No JSON, or not of the shape of a manifest.
    #[error("the manifest is not valid")]
    Json(#[source] serde_json::Error),
    /// Older than 2016.
    #[error("the manifest has schema version {version}; want 2")]
    SchemaVersion {
        /// What it has.
        version: u64,
    },
    /// Both an image and an index: which one it is depends on who reads it.
    #[error("the manifest is both an image and an index")]
    Ambiguous,
    /// A digest that cannot be checked.
    #[error("the manifest names content that cannot be checked")]
    Digest(#[from] DigestError),
    /// A Helm chart, a signature, …
    #[error("this is not a container image but {media_type:?}")]
    Artifact {
        /// What its config is.
        media_type: String,
    },
    /// A config beyond [`MAX_DOCUMENT_BYTES`].
    #[error("the config has {size} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")]
    ConfigSize {
        /// What the manifest says.
        size: u64,
    },
    /// None, or more than [`MAX_LAYERS`].
    #[error("the image has {count} layers; want 1 to {MAX_LAYERS}")]
    LayerCount {
        /// How many.
        count: usize,
    },
    /// A layer that is kept elsewhere than in the registry, under its vendor's terms.
    #[error(
        "layer {digest} is to be had from elsewhere ({media_type}); such layers are not supported"
    )]
    ForeignLayer {
        /// Which layer.
        digest: Digest,
        /// What it is.
        media_type: String,
    },
    /// A layer that only the holder of a key can read.
    #[error("layer {digest} is encrypted; such layers are not supported")]
    EncryptedLayer {
        /// Which layer.
        digest: Digest,
    },
    /// A layer that is no tar.
    #[error("layer {digest} is not a tar but {media_type:?}")]
    NotATar {
        /// Which layer.
        digest: Digest,
        /// What it is.
        media_type: String,
    },
    /// A layer beyond [`MAX_LAYER_BYTES`].
    #[error("layer {digest} has {size} bytes; at most {MAX_LAYER_BYTES} are allowed")]
    LayerSize {
        /// Which layer.
        digest: Digest,
        /// What the manifest says.
        size: u64,
    },
    /// Nothing in the index is for the wanted machine.
    #[error("there is no image for {wanted}; there is: {}", listed(.available))]
    Platform {
        /// What was asked for.
        wanted: Platform,
        /// What the index has.
        available: Vec<Platform>,
    },
    /// An index in an index in an index.
    #[error("the index leads to another index, more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// How many indexes may lead to one another.
pub(crate) const MAX_DEPTH: usize = 3;

/// What tells one document from another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u64,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
}

/// Parses what stands under a name.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, ManifestError> {
    let shape: Shape = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if shape.schema_version != 2 {
        return Err(ManifestError::SchemaVersion { version: shape.schema_version });
    }
    match (shape.manifests.is_some(), shape.layers.is_some() || shape.config.is_some()) {
        (true, true) => Err(ManifestError::Ambiguous),
        (true, false) => {
            let index: ImageIndex = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
            index.manifests().iter().map(entry).collect::<Result<_, _>>().map(Document::Index)
        }
        (false, _) => {
            let spec: ImageManifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
            image(&spec).map(Document::Image)
        }
    }
}

/// Which entry of an index is for `wanted`. An index of one entry that does not say is taken at its word.
pub(crate) fn select<'a>(
    entries: &'a [IndexEntry],
    wanted: &Platform,
) -> Result<&'a IndexEntry, ManifestError> {
    if let [only] = entries
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let fit = |entry: &&IndexEntry| entry.platform.as_ref().is_some_and(|p| wanted.accepts(p));
    let distance = |entry: &&IndexEntry| entry.platform.as_ref().map(|p| wanted.distance(p));
    entries.iter().filter(fit).min_by_key(distance).ok_or_else(|| ManifestError::Platform {
        wanted: wanted.clone(),
        available: entries.iter().filter_map(|entry| entry.platform.clone()).take(64).collect(),
    })
}

fn entry(spec: &SpecDescriptor) -> Result<IndexEntry, ManifestError> {
    let platform = spec.platform().as_ref().map(|platform| {
        let (os, arch) = (platform.os().to_string(), platform.architecture().to_string());
        Platform::new(&os, &arch, platform.variant().as_deref())
    });
    let annotations = spec.annotations().as_ref();
    let name = annotations.and_then(|all| all.get("org.opencontainers.image.ref.name")).cloned();
    Ok(IndexEntry { descriptor: descriptor(spec)?, platform, name })
}

fn image(spec: &ImageManifest) -> Result<Manifest, ManifestError> {
    let config = descriptor(spec.config())?;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        let artifact = spec.artifact_type().as_ref().map(ToString::to_string);
        let media_type = artifact.unwrap_or(config.media_type);
        return Err(ManifestError::Artifact { media_type });
    }
    if config.size > MAX_DOCUMENT_BYTES {
        return Err(ManifestError::ConfigSize { size: config.size });
    }
    let count = spec.layers().len();
    if count == 0 || count > MAX_LAYERS {
        return Err(ManifestError::LayerCount { count });
    }
    let layers = spec.layers().iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Manifest { config, layers })
}

fn layer(spec: &SpecDescriptor) -> Result<Descriptor, ManifestError> {
    let Descriptor { digest, size, media_type } = descriptor(spec)?;
    let foreign = media_type.contains(".foreign.") || media_type.contains(".nondistributable.");
    if foreign || spec.urls().as_ref().is_some_and(|urls| !urls.is_empty()) {
        Err(ManifestError::ForeignLayer { digest, media_type })
    } else if media_type.ends_with("+encrypted") {
        Err(ManifestError::EncryptedLayer { digest })
    } else if !LAYERS.contains(&media_type.as_str()) {
        Err(ManifestError::NotATar { digest, media_type })
    } else if size > MAX_LAYER_BYTES {
        Err(ManifestError::LayerSize { digest, size })
    } else {
        Ok(Descriptor { digest, size, media_type })
    }
}

fn descriptor(spec: &SpecDescriptor) -> Result<Descriptor, ManifestError> {
    let media_type = spec.media_type().to_string().chars().take(256).collect();
    Ok(Descriptor { digest: spec.digest().to_string().parse()?, size: spec.size(), media_type })
}

fn listed(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What we ask a registry for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const CONFIGS: [&str; 2] = [OCI_CONFIG, "application/vnd.docker.container.image.v1+json"];

const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
