//! An archive's members into the store, in one pass, whatever their order.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bandsox_image::decoder;
use tar::{Archive, EntryType};

use super::LocalError;
use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::manifest::{Descriptor, MAX_DOCUMENT_BYTES, MAX_LAYER_BYTES};

/// What is in an archive. Names are only ever compared, never opened.
#[derive(Default)]
pub(super) struct Members {
    files: BTreeMap<String, Descriptor>,
    /// Old archives have a layer that occurs twice as a link.
    links: BTreeMap<String, String>,
    /// Blobs that were not there before.
    pub(super) added: Vec<Digest>,
}

impl Members {
    /// The member of a name, through links.
    pub(super) fn get(&self, name: &str) -> Option<&Descriptor> {
        let mut name = plain(name);
        for _ in 0..MAX_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        self.files.get(&name)
    }

    /// The content of a small member.
    pub(super) fn document(&self, blobs: &Blobs, name: &str) -> Option<Vec<u8>> {
        blobs.document(&self.get(name)?.digest, MAX_DOCUMENT_BYTES)
    }

    /// Takes back what was stored for an archive, except what `keep` says.
    pub(super) fn forget(&self, blobs: &Blobs, keep: impl Fn(&Digest) -> bool) {
        for digest in self.added.iter().filter(|digest| !keep(digest)) {
            // What stays is nobody's, and goes with the next prune.
            drop(crate::atomic::delete(&blobs.path(digest)));
        }
    }
}

/// Stores every file of the archive that `input` reads, which may be compressed.
pub(super) fn ingest(
    blobs: &Blobs,
    input: &mut dyn Read,
    members: &mut Members,
    progress: &mut dyn FnMut(u64),
) -> Result<(), LocalError> {
    let mut archive = Archive::new(decoder(input).map_err(LocalError::Tar)?);
    let mut count = 0u64;
    for entry in archive.entries().map_err(LocalError::Tar)? {
        let entry = entry.map_err(|error| match (count, error.kind()) {
            // What the first header is not, the bytes of it do not explain.
            (0, io::ErrorKind::Other) => LocalError::NoTar,
            _ => LocalError::Tar(error),
        })?;
        count = count.saturating_add(1);
        if count > MAX_MEMBERS {
            return Err(LocalError::TooMuch { what: "members", most: MAX_MEMBERS });
        }
        if entry.size() > MAX_LAYER_BYTES {
            return Err(LocalError::TooMuch { what: "bytes in a member", most: MAX_LAYER_BYTES });
        }
        let name = plain(&String::from_utf8_lossy(&entry.path_bytes()));
        let kind = entry.header().entry_type();
        if [EntryType::Regular, EntryType::Continuous, EntryType::GNUSparse].contains(&kind) {
            let mut content = Content { entry, broke: false };
            let stored = blobs.take(&mut content, progress).map_err(|source| {
                if content.broke {
                    LocalError::Tar(source)
                } else {
                    LocalError::File { path: blobs.partial_dir(), source }
                }
            })?;
            if stored.new {
                members.added.push(stored.descriptor.digest.clone());
            }
            members.files.insert(name, stored.descriptor);
        } else if [EntryType::Symlink, EntryType::Link].contains(&kind) {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
            let from = if kind == EntryType::Symlink { dir } else { "" };
            members.links.insert(name.clone(), plain(&format!("{from}/{target}")));
        }
    }
    Ok(())
}

/// A member that knows whether an error was its own.
struct Content<R> {
    entry: R,
    broke: bool,
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.entry.read(buffer);
        self.broke = result.is_err();
        result
    }
}

/// Without empty parts, `.` and `..`.
fn plain(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

const MAX_MEMBERS: u64 = 20_000;
const MAX_LINKS: usize = 8;
