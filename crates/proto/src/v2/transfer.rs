//! What the sender of files says, whichever side it is.

use crate::v2::frame::{DecodeError, decode_map, encode_map};
use crate::v2::{Done, Entry, Fault, Frame, Kind};

/// The messages of a file transfer that are the same in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each names the message of the same name, documented there")]
pub enum Transfer {
    Entry(Entry),
    Done(Done),
    Error(Fault),
}

impl Transfer {
    /// Reads a frame that can only be one of these.
    ///
    /// # Errors
    ///
    /// [`DecodeError::WrongDirection`] for any other kind; else as the payload deserves.
    pub fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let kind =
            Kind::from_byte(frame.kind).ok_or(DecodeError::UnknownKind { kind: frame.kind })?;
        if kind == Kind::Entry {
            Ok(Self::Entry(decode_map(kind, frame.payload)?))
        } else if kind == Kind::Done {
            Ok(Self::Done(decode_map(kind, frame.payload)?))
        } else if kind == Kind::Error {
            Ok(Self::Error(decode_map(kind, frame.payload)?))
        } else {
            Err(DecodeError::WrongDirection { kind })
        }
    }

    /// Appends this message, with its frame header, to `out`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] if it does not fit into a frame.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        match self {
            Self::Entry(entry) => encode_map(Kind::Entry, entry, out),
            Self::Done(done) => encode_map(Kind::Done, done, out),
            Self::Error(fault) => encode_map(Kind::Error, fault, out),
        }
    }
}
