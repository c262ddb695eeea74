//! Streams as JSON, one frame a line, and back to the same bytes.
//!
//! ```text
//!   {"kind":"device","epoch":4,"compressed":true,"payload":[{"path":"bus/uart0",…,"state":{"fifo":"00abff"}}]}
//! ```
//!
//! State is written as its schema describes it, and off-the-shelf validators take it; other values have escapes for what JSON lacks:
//! `{"$bytes":"00ff"}`, `{"$int":"-18446744073709551616"}`, and one more `$` before keys that begin with one.
//! What follows from the rest is not read back but made anew: checksums, counts, digest, index and tail. So an edited stream is whole again.

mod from;
mod project;
mod to;

use std::io;

use crate::broken::Broken;
use crate::reader::ReadError;
use crate::writer::WriteError;

pub use from::from_json;
pub use project::{state_from_json, state_to_json, value_from_json, value_to_json};
pub use to::to_json;

/// Why a stream was not made into JSON, or JSON not into a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The stream is broken.
    #[error("the stream cannot be read")]
    Read(#[from] ReadError),
    /// The stream that the JSON describes may not be.
    #[error("line {line}: no such stream can be written")]
    Write {
        /// Which line, counted from 1.
        line: u64,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// The input could not be read, or the output not written.
    #[error("reading or writing JSON failed")]
    Io(#[from] io::Error),
    /// A frame of a kind that this version does not know.
    #[error("frame {frame} is of a kind that JSON has no form for")]
    UnknownKind {
        /// Which frame, counted from 0.
        frame: u64,
    },
    /// A line is no JSON.
    #[error("line {line} is no JSON")]
    Syntax {
        /// Which line, counted from 1.
        line: u64,
        /// Where in it.
        source: serde_json::Error,
    },
    /// A line is not what a frame looks like.
    #[error("line {line}")]
    Form {
        /// Which line, counted from 1.
        line: u64,
        /// What about it.
        #[source]
        source: Broken,
    },
}
