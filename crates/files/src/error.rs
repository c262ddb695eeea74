//! Why files could not be sent or received.

use std::fmt;
use std::io;

use bandsox_proto::ByteString;
use bandsox_proto::v2::{DecodeError, EntryKind, Fault, InvalidEntry, ReadError};

/// What was being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the verb of the same name")]
pub enum Action {
    Open,
    Read,
    List,
    Create,
    Write,
    Replace,
    SetMetadata,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::List => "list",
            Self::Create => "create",
            Self::Write => "write",
            Self::Replace => "put in place",
            Self::SetMetadata => "set mode and times of",
        })
    }
}

/// The operating system refused something on a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct FileError {
    /// What.
    pub action: Action,
    /// On which.
    pub path: ByteString,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub(crate) fn on<E: Into<io::Error>>(
        action: Action,
        path: &ByteString,
    ) -> impl FnOnce(E) -> Self {
        let path = path.clone();
        move |source| Self { action, path, source: source.into() }
    }
}

/// Why files could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something other than file, directory or link was named.
    #[error("{path} is a {kind}, which cannot be sent")]
    Kind {
        /// Its path.
        path: ByteString,
        /// What it is.
        kind: EntryKind,
    },
    /// A directory where a file was asked for.
    #[error("{path} is a directory")]
    IsADirectory {
        /// Its path.
        path: ByteString,
    },
    /// The file became shorter while it was read. The receiver has been told to throw it away.
    #[error("{path} shrank while it was read: {got} of {size} bytes were there")]
    Shrank {
        /// Its path.
        path: ByteString,
        /// Bytes that were there.
        got: u64,
        /// Its size at the start, in bytes.
        size: u64,
    },
    /// A tree nested deeper than [`crate::MAX_DEPTH`].
    #[error("{path} is nested too deeply")]
    TooDeep {
        /// The directory that is too deep.
        path: ByteString,
    },
    /// The receiver's channel failed.
    #[error("cannot write to the channel")]
    Channel(#[source] io::Error),
    /// A name or link target too long to be announced.
    #[error("cannot announce a file")]
    Announce(#[from] DecodeError),
    /// The [`crate::Watch`] said so.
    #[error("transfer was stopped")]
    Stopped,
}

/// Why files could not be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// An entry that no honest sender makes.
    #[error(transparent)]
    Entry(#[from] InvalidEntry),
    /// An entry whose directory is not the one open, or is no directory, or that comes after the target was complete.
    #[error("entry {path} is out of order")]
    Order {
        /// Its path.
        path: ByteString,
    },
    /// What is there is not what arrives: a directory for a file or the other way round.
    #[error("{path} is a {found}, not a {wanted}")]
    Exists {
        /// Its path.
        path: ByteString,
        /// What is there.
        found: EntryKind,
        /// What arrives.
        wanted: EntryKind,
    },
    /// More, or larger, than the receiver allows.
    #[error("more than {limit} {what} arrived")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// The data is not what the sender sent. What was there before is untouched.
    #[error("Checksum mismatch: expected {expected:016x} got {got:016x} for {path}")]
    Checksum {
        /// Its path.
        path: ByteString,
        /// The sender's xxh64.
        expected: u64,
        /// Ours.
        got: u64,
    },
    /// The sender gave up on a file, and said no more.
    #[error("{path} could not be read to its end by the sender")]
    SourceFailed {
        /// Its path.
        path: ByteString,
    },
    /// The sender reports an error.
    #[error(transparent)]
    Sender(Fault),
    /// The channel failed between frames or within one.
    #[error("cannot read from the channel")]
    Channel(#[from] ReadError),
    /// The channel failed or ended within a file's data.
    #[error("channel ended within the data of {path}")]
    Data {
        /// Its path.
        path: ByteString,
        /// Why.
        source: io::Error,
    },
    /// A message that has no place here.
    #[error("sender broke the protocol")]
    Protocol(#[from] DecodeError),
    /// The sender closed before it said Done.
    #[error("sender went away before it was done")]
    Ended,
    /// The [`crate::Watch`] said so.
    #[error("transfer was stopped")]
    Stopped,
}
