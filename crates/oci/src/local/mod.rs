//! Images in files of this host: OCI layouts, and archives of Docker's and of OCI's kind.

pub(crate) mod archive;
mod ingest;
pub(crate) mod layout;

use std::io;
use std::path::PathBuf;

use bandsox_image::ReadError;

use crate::manifest::{Document, IndexEntry, Manifest, ManifestError};
use crate::source::{Pick, shown};

/// Why a layout or an archive cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A file cannot be read or written.
    #[error("could not read or write {}", shown(&path.to_string_lossy()))]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory is something else.
    #[error("{} is not an OCI layout: it has no oci-layout and index.json", shown(&path.to_string_lossy()))]
    NotALayout {
        /// The directory.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("the archive has neither manifest.json nor index.json, so it holds no image")]
    NoImage,
    /// The file is something else altogether.
    #[error("it is not a tar archive, so it holds no image")]
    NoTar,
    /// The tar itself is damaged.
    #[error("the archive cannot be read as a tar")]
    Tar(#[source] io::Error),
    /// Likewise, or there is too much of it.
    #[error("the archive cannot be read as a tar")]
    Archive(#[source] ReadError),
    /// More members, or a longer one, than an image can have.
    #[error("the archive has more than {most} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: u64,
    },
    /// `manifest.json` is no JSON, or not of its shape.
    #[error("manifest.json is not valid")]
    Json(#[source] serde_json::Error),
    /// `manifest.json` names a file that is not in the archive.
    #[error("manifest.json names {member:?}, which is not in the archive")]
    Missing {
        /// The file.
        member: String,
    },
    /// A blob of the layout is not what its name says, is too long, or is not there.
    #[error("blob {name} is missing or damaged")]
    Blob {
        /// Its digest.
        name: String,
    },
    /// No image has the wanted name.
    #[error("there is no image {:?}; {}", shown(wanted), named(available))]
    NoSuchName {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Several images, and none was named.
    #[error("there are several images, and none was named; {}", named(available))]
    Several {
        /// What there is.
        available: Vec<String>,
    },
    /// An index or a manifest in it cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

fn named(available: &[String]) -> String {
    if available.is_empty() {
        "no image in it has a name".to_owned()
    } else {
        format!("there is: {}", available.join(", "))
    }
}

/// The entries of a layout's index among which the platform decides.
pub(crate) fn pick(entries: Vec<IndexEntry>, pick: &Pick) -> Result<Vec<IndexEntry>, LocalError> {
    let shown = |entry: &IndexEntry| {
        entry.name.clone().unwrap_or_else(|| entry.descriptor.digest.to_string())
    };
    let mut available: Vec<String> = entries.iter().take(64).map(shown).collect();
    available.dedup();
    let fits = |entry: &IndexEntry| match pick {
        Pick::Only => true,
        Pick::Name(name) => entry.name.as_ref() == Some(name),
        Pick::Digest(digest) => entry.descriptor.digest == *digest,
    };
    let picked: Vec<IndexEntry> = entries.into_iter().filter(fits).collect();
    let Some(first) = picked.first() else {
        let wanted = match pick {
            Pick::Only => String::new(),
            Pick::Name(name) => name.clone(),
            Pick::Digest(digest) => digest.to_string(),
        };
        return Err(LocalError::NoSuchName { wanted, available });
    };
    let one_name = picked.iter().all(|entry| entry.name == first.name);
    let platforms = picked.iter().all(|entry| entry.platform.is_some());
    if picked.len() > 1 && !(one_name && platforms) {
        return Err(LocalError::Several { available });
    }
    Ok(picked)
}

/// Follows a layout's index to a manifest, by a function that gives a document by its digest.
pub(crate) fn follow(
    index: &[u8],
    which: &Pick,
    platform: &crate::platform::Platform,
    get: impl Fn(&crate::digest::Digest) -> Result<Vec<u8>, LocalError>,
) -> Result<(Vec<u8>, Manifest), LocalError> {
    let Document::Index(entries) = crate::manifest::parse(index)? else {
        return Err(LocalError::NoImage);
    };
    let mut entries = pick(entries, which)?;
    for _ in 0..crate::manifest::MAX_DEPTH {
        let entry = crate::manifest::select(&entries, platform)?;
        let bytes = get(&entry.descriptor.digest)?;
        match crate::manifest::parse(&bytes)? {
            Document::Image(manifest) => return Ok((bytes, manifest)),
            Document::Index(next) => entries = next,
        }
    }
    Err(ManifestError::TooDeep.into())
}
