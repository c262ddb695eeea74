//! Frames: u32 LE length of the payload, u8 kind, payload.

use std::io::{self, Read};

use minicbor::{Decode, Encode};

use crate::v2::Kind;

/// Longest payload in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Bytes before the payload: u32 LE length, u8 kind.
const HEADER: usize = 5;

/// A buffer that once grew beyond this is given back after the frame that needed it.
const KEEP: usize = 128 * 1024;

/// One frame, as it lies in the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The kind byte; may be one that this version does not know.
    pub kind: u8,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer says that more follows than a frame may hold.
    #[error("frame of kind {kind:#04x} has {len} bytes; at most {MAX_PAYLOAD} are allowed")]
    TooLong {
        /// Its kind byte.
        kind: u8,
        /// Its length in bytes, by its header.
        len: u32,
    },
    /// The stream ended within a frame.
    #[error("channel ended within a frame")]
    Truncated,
    /// The channel failed.
    #[error("channel failed")]
    Io(#[source] io::Error),
}

/// Why a payload is not the message that its kind says, or a message does not fit into a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No message of this version has this kind byte.
    #[error("message kind {kind:#04x} is unknown")]
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// Only the other side says this.
    #[error("message {kind:?} came from the wrong side")]
    WrongDirection {
        /// Which.
        kind: Kind,
    },
    /// The payload is too short, too long, or holds a byte that it must not.
    #[error("message {kind:?} of {len} bytes is malformed")]
    Length {
        /// Which.
        kind: Kind,
        /// Length in bytes.
        len: usize,
    },
    /// The payload is not the CBOR map that it should be.
    #[error("message {kind:?} is malformed")]
    Cbor {
        /// Which.
        kind: Kind,
        /// Where and why.
        source: minicbor::decode::Error,
    },
    /// The message does not fit into a frame.
    #[error("message {kind:?} has {len} bytes; at most {MAX_PAYLOAD} fit into a frame")]
    TooLong {
        /// Which.
        kind: Kind,
        /// Length in bytes.
        len: usize,
    },
}

/// Reads frames, and never a byte beyond the frame asked for: raw file data may follow, and may be moved by others.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: R,
    payload: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// Reads from `input`, which stands at the start of a frame.
    pub fn new(input: R) -> Self {
        Self { input, payload: Vec::new() }
    }

    /// The next frame; `None` if the stream ended between frames.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. After an error the stream is of no more use.
    pub fn read(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        let mut header = [0_u8; HEADER];
        if !read_or_end(&mut self.input, &mut header)? {
            return Ok(None);
        }
        let [a, b, c, d, kind] = header;
        let len = u32::from_le_bytes([a, b, c, d]);
        let wanted = usize::try_from(len).ok().filter(|len| *len <= MAX_PAYLOAD);
        let Some(wanted) = wanted else {
            return Err(ReadError::TooLong { kind, len });
        };
        if self.payload.capacity() > KEEP && wanted <= KEEP {
            self.payload = Vec::new();
        }
        // Grows with what arrives, not with what was announced.
        self.payload.clear();
        let wanted_u64 = u64::from(len);
        let got = self.input.by_ref().take(wanted_u64).read_to_end(&mut self.payload);
        if got.map_err(ReadError::Io)? < wanted {
            return Err(ReadError::Truncated);
        }
        Ok(Some(Frame { kind, payload: &self.payload }))
    }

    /// The stream itself, for the raw data between two frames.
    pub fn raw(&mut self) -> &mut R {
        &mut self.input
    }

    /// Gives the stream back. Nothing was read ahead.
    pub fn into_inner(self) -> R {
        self.input
    }
}

/// The frame that `bytes` begin with, and its length on the wire; `None` if it is not all there yet.
///
/// For those who read without blocking and keep a buffer of their own.
///
/// # Errors
///
/// [`ReadError::TooLong`]
pub fn parse_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, ReadError> {
    let Some((&[a, b, c, d, kind], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes([a, b, c, d]);
    let wanted = usize::try_from(len).ok().filter(|len| *len <= MAX_PAYLOAD);
    let wanted = wanted.ok_or(ReadError::TooLong { kind, len })?;
    let whole = rest.get(..wanted);
    Ok(whole.map(|payload| (Frame { kind, payload }, wanted.saturating_add(HEADER))))
}

/// Fills `buffer`; `false` if the stream was at its end already.
fn read_or_end(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool, ReadError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ReadError::Truncated),
            Ok(n) => filled = filled.saturating_add(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
    Ok(true)
}

/// Appends a frame whose payload is `parts`, one after the other, to `out`.
///
/// # Errors
///
/// [`DecodeError::TooLong`] if the parts are longer than [`MAX_PAYLOAD`]; `out` is then as it was.
pub fn encode_frame(kind: Kind, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let header = header(kind, len)?;
    out.reserve(len.saturating_add(HEADER));
    out.extend_from_slice(&header);
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

fn header(kind: Kind, len: usize) -> Result<[u8; HEADER], DecodeError> {
    let fits = u32::try_from(len).ok().filter(|_| len <= MAX_PAYLOAD);
    let [a, b, c, d] = fits.ok_or(DecodeError::TooLong { kind, len })?.to_le_bytes();
    Ok([a, b, c, d, kind.byte()])
}

pub(crate) fn encode_empty(kind: Kind, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    encode_frame(kind, &[], out)
}

pub(crate) fn encode_map<T: Encode<()>>(
    kind: Kind,
    message: &T,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let body = start.saturating_add(HEADER);
    let encoded = minicbor::encode(message, &mut *out);
    encoded.expect("writing to memory does not fail, and no message has a fallible encoder");
    let len = out.len().saturating_sub(body);
    match header(kind, len) {
        Ok(header) => {
            out.get_mut(start..body).expect("just appended").copy_from_slice(&header);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

pub(crate) fn decode_map<'b, T: Decode<'b, ()>>(
    kind: Kind,
    payload: &'b [u8],
) -> Result<T, DecodeError> {
    let mut decoder = minicbor::Decoder::new(payload);
    let message = decoder.decode().map_err(|source| DecodeError::Cbor { kind, source })?;
    require_empty(kind, payload.get(decoder.position()..).unwrap_or_default())?;
    Ok(message)
}

/// Splits the u64 LE off that Stdin, StdinEof, Output and StdinAck begin with.
pub(crate) fn raw_with_u64(kind: Kind, payload: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let (number, rest) =
        payload.split_first_chunk::<8>().ok_or(DecodeError::Length { kind, len: payload.len() })?;
    Ok((u64::from_le_bytes(*number), rest))
}

pub(crate) fn require_empty(kind: Kind, rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() { Ok(()) } else { Err(DecodeError::Length { kind, len: rest.len() }) }
}
