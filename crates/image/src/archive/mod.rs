//! Reading tar archives that nobody vouches for.
//!
//! The [`tar`] crate decodes the 512-byte headers; the framing is ours, because that crate splits PAX records at newlines
//! (a capability's bytes and a file's name may hold one), reads extension members without a bound, and hides where the
//! holes of sparse files are.
//!
//! Understood: v7, ustar, GNU and PAX; long names and links of both kinds; old-GNU and PAX sparse files (0.0, 0.1, 1.0);
//! extended attributes as `SCHILY.xattr.*`.

mod compression;
mod member;
mod pax;
mod reader;
mod sparse;
mod zstd;

pub use compression::decoder;
pub(crate) use compression::{Compression, decoder_of_layers};
pub use member::{Kind, Member};
pub(crate) use reader::is_header;
pub use reader::{Archive, ReadError};
