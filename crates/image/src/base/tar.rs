//! A tar's members, straight into an image.

use std::io::Read;

use bandsox_erofs::{Attributes, Builder, Node};

use super::add::{AddError, shown, xattrs};
use super::limits::Limits;
use crate::archive::{Archive, Kind, Member, ReadError, decoder};

/// Why a tar could not become an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The compressed stream does not begin like one.
    #[error("could not decompress it")]
    Decompress(#[source] std::io::Error),
    /// What is in the file, or in the compressed file, is something else.
    #[error("it is not a tar archive")]
    NotATar(#[source] ReadError),
    /// The archive is damaged, hostile or too large.
    #[error(transparent)]
    Read(ReadError),
    /// It is a tar, of nothing.
    #[error("the archive is empty")]
    Empty,
    /// One of its members cannot be stored.
    #[error("member {member}")]
    Add {
        /// Its path in the archive.
        member: String,
        /// What is wrong with it.
        source: AddError,
    },
}

/// Adds every member of the (compressed) tar `input`; of two with one name, the later wins.
pub(crate) fn add(
    builder: &mut Builder,
    input: impl Read,
    limits: &Limits,
) -> Result<(), TarError> {
    let input = decoder(input).map_err(TarError::Decompress)?;
    let mut archive = Archive::new(input, limits.source_bytes);
    let mut members = 0u64;
    while let Some(member) = next(&mut archive)? {
        let name = shown(&member.path);
        add_member(builder, member, &mut archive)
            .map_err(|source| TarError::Add { member: name, source })?;
        members = members.saturating_add(1);
    }
    if members == 0 { Err(TarError::Empty) } else { Ok(()) }
}

/// What a member adds to an image, beside its path.
#[derive(Debug)]
pub(super) enum Addition {
    /// A file of its own.
    Node(Attributes, Node),
    /// Another name of what is at this path.
    HardLink(Vec<u8>),
}

/// The next member of an archive.
pub(super) fn next<R: Read>(archive: &mut Archive<R>) -> Result<Option<Member>, TarError> {
    archive.next_member().map_err(|error| {
        if matches!(&error, ReadError::Header { offset: 0, field: "checksum" }) {
            TarError::NotATar(error)
        } else {
            TarError::Read(error)
        }
    })
}

/// Stores a member's content, which is read from `data`; its path still has to be given to it.
pub(super) fn store(
    builder: &mut Builder,
    member: Member,
    data: &mut impl Read,
) -> Result<(Vec<u8>, Addition), AddError> {
    let Member { path, kind, mode, uid, gid, mtime, size, xattrs: pairs } = member;
    let xattrs =
        xattrs(&path, pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())))?;
    let attributes = Attributes { mode, uid, gid, mtime, xattrs };
    let node = match kind {
        Kind::HardLink { target } => return Ok((path, Addition::HardLink(target))),
        Kind::File { extents } => {
            let stored = builder.store(size, &extents, data);
            Node::File(stored.map_err(|source| AddError::Data { path: shown(&path), source })?)
        }
        Kind::Symlink { target } => Node::Symlink(target.into()),
        Kind::Directory => Node::Directory,
        Kind::CharDevice { major, minor } => Node::CharDevice { major, minor },
        Kind::BlockDevice { major, minor } => Node::BlockDevice { major, minor },
        Kind::Fifo => Node::Fifo,
    };
    Ok((path, Addition::Node(attributes, node)))
}

fn add_member(builder: &mut Builder, member: Member, data: &mut impl Read) -> Result<(), AddError> {
    match store(builder, member, data)? {
        (path, Addition::HardLink(target)) => builder.tree.hard_link(&path, &target, None)?,
        (path, Addition::Node(attributes, node)) => {
            builder.tree.insert(&path, attributes, node)?;
        }
    }
    Ok(())
}
