//! Protocol v1, the migration guide's: newline-delimited JSON, base64 chunks, an ack for each, MD5.
//!
//! The text another implementation is written from is `docs/formats/protocol-v1.md`. Nothing here hashes or touches
//! files: both sides do that with their own means.

mod chunk;
mod line;
mod message;

pub use chunk::{CHUNK, decode_data, encode_chunk};
pub use line::{LineError, LineReader, MAX_LINE};
pub use message::{Malformed, Message, encode_message};
