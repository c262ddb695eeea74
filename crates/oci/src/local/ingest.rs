//! An archive's members into the store, in one pass, whatever their order.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bandsox_image::{Archive, Kind, Member, ReadError, decoder};

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

/// Stores every file of the archive that `input` reads, which may be compressed. All of it together, decompressed, may have
/// `most` bytes, and so may all files, holes included.
pub(super) fn ingest(
    blobs: &Blobs,
    input: &mut dyn Read,
    members: &mut Members,
    most: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), LocalError> {
    let mut archive = Archive::new(decoder(input).map_err(LocalError::Tar)?, most);
    let (mut count, mut total) = (0u64, 0u64);
    while let Some(member) = archive.next_member().map_err(|error| unreadable(error, most))? {
        let Member { path, kind, size, .. } = member;
        count = count.saturating_add(1);
        total = total.saturating_add(size);
        let too_much = |what, most| Err(LocalError::TooMuch { what, most });
        if count > MAX_MEMBERS {
            return too_much("members", MAX_MEMBERS);
        }
        if size > MAX_LAYER_BYTES {
            return too_much("bytes in a member", MAX_LAYER_BYTES);
        }
        if total > most {
            return too_much("bytes in all of its members", most);
        }
        let name = plain(&String::from_utf8_lossy(&path));
        match kind {
            Kind::File { extents } => {
                let mut content = Expanded::new(&mut archive, extents, size);
                let stored = blobs.take(&mut content, progress).map_err(|e| failed(blobs, e))?;
                if stored.new {
                    members.added.push(stored.descriptor.digest.clone());
                }
                members.files.insert(name, stored.descriptor);
            }
            Kind::Symlink { target } => {
                let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
                let target = format!("{dir}/{}", String::from_utf8_lossy(&target));
                members.links.insert(name, plain(&target));
            }
            Kind::HardLink { target } => {
                members.links.insert(name, plain(&String::from_utf8_lossy(&target)));
            }
            Kind::Directory | Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => {}
        }
    }
    Ok(())
}

fn unreadable(error: ReadError, most: u64) -> LocalError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these mean more than they say")]
    match error {
        // What the first header is not, the bytes of it do not explain.
        ReadError::Header { offset: 0, field: "checksum" } => LocalError::NoTar,
        ReadError::Truncated { offset } if offset < 512 => LocalError::NoTar,
        // The reader's own limit is of what is left for the member.
        ReadError::TooLarge { what: "data" | "archive", .. } => {
            LocalError::TooMuch { what: "bytes, decompressed", most }
        }
        _ => LocalError::Archive(error),
    }
}

/// A member's content could not be read, or not be stored.
fn failed(blobs: &Blobs, error: io::Error) -> LocalError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if [InvalidData, InvalidInput, UnexpectedEof].contains(&error.kind()) {
        LocalError::Tar(error)
    } else {
        LocalError::File { path: blobs.partial_dir(), source: error }
    }
}

/// A file whose holes are filled with zeros again.
struct Expanded<'a, R> {
    archive: &'a mut R,
    /// What is left, the next first.
    pieces: std::vec::IntoIter<Piece>,
    piece: Piece,
}

#[derive(Clone, Copy)]
enum Piece {
    Hole(u64),
    Data(u64),
}

impl<'a, R: Read> Expanded<'a, R> {
    fn new(archive: &'a mut R, extents: Vec<(u64, u64)>, size: u64) -> Self {
        let mut pieces = Vec::new();
        let mut at = 0u64;
        for (offset, length) in extents {
            pieces.extend([Piece::Hole(offset.saturating_sub(at)), Piece::Data(length)]);
            at = offset.saturating_add(length);
        }
        pieces.push(Piece::Hole(size.saturating_sub(at)));
        Self { archive, pieces: pieces.into_iter(), piece: Piece::Hole(0) }
    }
}

impl<R: Read> Read for Expanded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Piece::Hole(0) | Piece::Data(0) = self.piece {
            match self.pieces.next() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let (Piece::Hole(left) | Piece::Data(left)) = self.piece;
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..want).unwrap_or_default();
        let got = match self.piece {
            Piece::Hole(_) => {
                part.fill(0);
                want
            }
            Piece::Data(_) => self.archive.read(part)?,
        };
        let rest = left.saturating_sub(u64::try_from(got).unwrap_or(u64::MAX));
        self.piece = match self.piece {
            Piece::Hole(_) => Piece::Hole(rest),
            Piece::Data(_) => Piece::Data(rest),
        };
        Ok(got)
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

#[cfg(test)]
mod tests;
