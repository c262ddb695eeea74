//! What `docker save` writes, and a tar of an OCI layout.
//!
//! Source: moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::ingest::{Members, ingest};
use super::{LocalError, follow};
use crate::blobs::{Blobs, FetchError, Origin, Patience, Piece};
use crate::digest::Digest;
use crate::manifest::{
    self, Descriptor, Document, MAX_ARCHIVE_BYTES, MAX_LAYERS, Manifest, ManifestError, OCI_CONFIG,
    OCI_MANIFEST,
};
use crate::name::registry_name;
use crate::platform::Platform;
use crate::source::Pick;

/// An image that was in an archive and is in the store now.
pub(crate) struct Unpacked {
    /// The manifest's bytes: the archive's own, or ones that we made of Docker's.
    pub(crate) bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
    /// The canonical name that the archive gives to it.
    pub(crate) name: Option<String>,
}

/// Reads an archive into the store and finds the image in it.
pub(crate) fn unpack(
    blobs: &Blobs,
    input: &mut dyn Read,
    pick: &Pick,
    platform: &Platform,
    progress: &mut dyn FnMut(u64),
) -> Result<Unpacked, LocalError> {
    unpack_within(MAX_ARCHIVE_BYTES, blobs, input, (pick, platform), progress)
}

/// As [`unpack`], of an archive that may have `most` bytes.
pub(crate) fn unpack_within(
    most: u64,
    blobs: &Blobs,
    input: &mut dyn Read,
    (pick, platform): (&Pick, &Platform),
    progress: &mut dyn FnMut(u64),
) -> Result<Unpacked, LocalError> {
    let mut members = Members::default();
    let result = ingest(blobs, input, &mut members, most, progress)
        .and_then(|()| find(blobs, &members, pick, platform));
    match &result {
        Ok(Unpacked { manifest, .. }) => members.forget(blobs, |digest| {
            *digest == manifest.config.digest
                || manifest.layers.iter().any(|layer| layer.digest == *digest)
        }),
        Err(_) => members.forget(blobs, |_| false),
    }
    result
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn find(
    blobs: &Blobs,
    members: &Members,
    pick: &Pick,
    platform: &Platform,
) -> Result<Unpacked, LocalError> {
    if let Some(text) = members.document(blobs, "manifest.json") {
        let items: Vec<Item> = serde_json::from_slice(&text).map_err(LocalError::Json)?;
        return docker(blobs, members, items, pick);
    }
    let index = members.document(blobs, "index.json").ok_or(LocalError::NoImage)?;
    let (bytes, manifest) = follow(&index, pick, platform, |digest| {
        let name = format!("blobs/sha256/{}", digest.hex());
        let found = members.document(blobs, &name).filter(|bytes| Digest::of(bytes) == *digest);
        found.ok_or(LocalError::Blob { name: digest.to_string() })
    })?;
    Ok(Unpacked { bytes, manifest, name: None })
}

fn docker(
    blobs: &Blobs,
    members: &Members,
    items: Vec<Item>,
    pick: &Pick,
) -> Result<Unpacked, LocalError> {
    let names = |item: &Item| -> Vec<String> {
        let tags = item.repo_tags.iter().flatten();
        tags.filter_map(|tag| registry_name(tag).ok()).map(|name| name.whole()).collect()
    };
    let available = || items.iter().flat_map(names).take(64).collect();
    let picked: Vec<&Item> = match pick {
        Pick::Only => items.iter().collect(),
        Pick::Name(wanted) => items.iter().filter(|item| names(item).contains(wanted)).collect(),
        Pick::Digest(_) => Vec::new(),
    };
    let item = match (picked.as_slice(), pick) {
        ([item], _) => *item,
        ([], Pick::Only) => return Err(LocalError::NoImage),
        ([], Pick::Name(wanted)) => {
            return Err(LocalError::NoSuchName { wanted: wanted.clone(), available: available() });
        }
        ([], Pick::Digest(digest)) => {
            let wanted = digest.to_string();
            return Err(LocalError::NoSuchName { wanted, available: available() });
        }
        ([_, ..], _) => return Err(LocalError::Several { available: available() }),
    };
    if item.layers.len() > MAX_LAYERS {
        return Err(ManifestError::LayerCount { count: item.layers.len() }.into());
    }
    let member = |name: &String| {
        members.get(name).cloned().ok_or_else(|| LocalError::Missing { member: name.clone() })
    };
    let config = Descriptor { media_type: OCI_CONFIG.to_owned(), ..member(&item.config)? };
    let layers = item.layers.iter().map(|name| {
        let layer = member(name)?;
        let media_type = media_type(blobs, &layer.digest).to_owned();
        Ok(Descriptor { media_type, ..layer })
    });
    let layers = layers.collect::<Result<Vec<_>, LocalError>>()?;
    let bytes = manifest_bytes(&config, &layers).map_err(LocalError::Json)?;
    // Ours or not, it passes the same checks as any other.
    match manifest::parse(&bytes)? {
        Document::Image(manifest) => {
            let name = match pick {
                Pick::Name(name) => Some(name.clone()),
                Pick::Only | Pick::Digest(_) => names(item).into_iter().next(),
            };
            Ok(Unpacked { bytes, manifest, name })
        }
        Document::Index(_) => Err(LocalError::NoImage),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u64,
    media_type: &'a str,
    config: WrittenDescriptor<'a>,
    layers: Vec<WrittenDescriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenDescriptor<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
}

impl<'a> From<&'a Descriptor> for WrittenDescriptor<'a> {
    fn from(Descriptor { digest, size, media_type }: &'a Descriptor) -> Self {
        Self { media_type, digest, size: *size }
    }
}

/// A manifest as we write it: the same for the same content.
pub(crate) fn manifest_bytes(
    config: &Descriptor,
    layers: &[Descriptor],
) -> serde_json::Result<Vec<u8>> {
    let layers = layers.iter().map(WrittenDescriptor::from).collect();
    let config = WrittenDescriptor::from(config);
    serde_json::to_vec(&Written { schema_version: 2, media_type: OCI_MANIFEST, config, layers })
}

/// What a layer is, by its first bytes.
pub(crate) fn media_type(blobs: &Blobs, digest: &Digest) -> &'static str {
    let mut head = [0; 4];
    let read = blobs.reader(digest).and_then(|mut file| file.read_exact(&mut head));
    match head {
        [0x1f, 0x8b, ..] if read.is_ok() => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    }
}

/// For images whose content is in the store already: there is nothing else to get it from.
pub(crate) struct Nowhere(pub(crate) Patience);

impl Nowhere {
    pub(crate) fn new() -> Self {
        Self(Patience { attempts: 1, ..Patience::default() })
    }
}

impl Origin for Nowhere {
    fn open(&self, what: &Descriptor, _offset: u64) -> Result<Piece, FetchError> {
        Err(FetchError::NotInArchive { digest: what.digest.clone() })
    }

    fn patience(&self) -> &Patience {
        &self.0
    }
}
