//! Telling the other side why.

use std::error::Error;
use std::io;

use bandsox_proto::v2::{EntryKind, ErrorCode, Fault, InvalidEntry};

use crate::{FileError, ReceiveError, SendError};

/// The code for what the operating system said.
#[must_use]
pub fn error_code(error: &io::Error) -> ErrorCode {
    use io::ErrorKind;
    let kind = error.kind();
    if kind == ErrorKind::NotFound {
        ErrorCode::NotFound
    } else if kind == ErrorKind::PermissionDenied {
        ErrorCode::PermissionDenied
    } else if kind == ErrorKind::NotADirectory {
        ErrorCode::NotADirectory
    } else if kind == ErrorKind::IsADirectory {
        ErrorCode::IsADirectory
    } else if kind == ErrorKind::StorageFull || kind == ErrorKind::QuotaExceeded {
        ErrorCode::NoSpace
    } else if kind == ErrorKind::ReadOnlyFilesystem {
        ErrorCode::ReadOnly
    } else {
        ErrorCode::Io
    }
}

/// An error as the message that tells the peer: its whole chain on one line, its code, its errno.
#[must_use]
pub fn fault<E: Error + Coded + 'static>(error: &E) -> Fault {
    let (code, errno) = error.code();
    Fault { code, message: bandsox_proto::chain(error), errno }
}

/// Errors that have a code.
pub trait Coded {
    /// The code, and the error number if the operating system spoke.
    fn code(&self) -> (ErrorCode, Option<i32>);
}

impl Coded for io::Error {
    fn code(&self) -> (ErrorCode, Option<i32>) {
        (error_code(self), self.raw_os_error())
    }
}

impl Coded for FileError {
    fn code(&self) -> (ErrorCode, Option<i32>) {
        self.source.code()
    }
}

impl Coded for SendError {
    fn code(&self) -> (ErrorCode, Option<i32>) {
        match self {
            Self::File(error) => error.code(),
            Self::Kind { .. } => (ErrorCode::NotAFile, None),
            Self::IsADirectory { .. } => (ErrorCode::IsADirectory, None),
            Self::Shrank { .. } => (ErrorCode::SourceChanged, None),
            Self::TooDeep { .. } => (ErrorCode::Limit, None),
            Self::Channel(error) => error.code(),
            Self::Announce(_) | Self::Stopped => (ErrorCode::Invalid, None),
        }
    }
}

impl Coded for ReceiveError {
    fn code(&self) -> (ErrorCode, Option<i32>) {
        match self {
            Self::File(error) => error.code(),
            Self::Entry(InvalidEntry::Name { .. } | InvalidEntry::Target { .. }) => {
                (ErrorCode::UnsafeName, None)
            }
            Self::Exists { wanted: EntryKind::Dir, .. } => (ErrorCode::NotADirectory, None),
            Self::Exists { found: EntryKind::Dir, .. } => (ErrorCode::IsADirectory, None),
            Self::Exists { .. } => (ErrorCode::NotAFile, None),
            Self::Limit { .. } => (ErrorCode::Limit, None),
            Self::Checksum { .. } => (ErrorCode::ChecksumMismatch, None),
            Self::SourceFailed { .. } => (ErrorCode::SourceChanged, None),
            Self::Sender(fault) => (fault.code, fault.errno),
            Self::Data { source, .. } => source.code(),
            Self::Entry(_)
            | Self::Order { .. }
            | Self::Channel(_)
            | Self::Protocol(_)
            | Self::Ended
            | Self::Stopped => (ErrorCode::Invalid, None),
        }
    }
}
