//! What went wrong on the other side.

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};

use crate::ByteString;

/// Why the peer refused or failed; a closed list, spelled as text on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `not_found`: no such file, directory or program.
    NotFound,
    /// `permission_denied`
    PermissionDenied,
    /// `not_a_directory`: a directory is needed where there is something else.
    NotADirectory,
    /// `is_a_directory`: a file is needed where there is a directory.
    IsADirectory,
    /// `not_a_file`: a device, socket or pipe is where a regular file is needed.
    NotAFile,
    /// `no_space`: the file system or the quota is full.
    NoSpace,
    /// `read_only`: the file system is mounted read-only.
    ReadOnly,
    /// `checksum_mismatch`: the bytes that arrived are not those that were sent.
    ChecksumMismatch,
    /// `source_changed`: the file shrank or vanished while it was read.
    SourceChanged,
    /// `unsafe_name`: a name that would lead out of the target.
    UnsafeName,
    /// `invalid`: the request makes no sense as it stands.
    Invalid,
    /// `unsupported`: this agent does not know the request.
    Unsupported,
    /// `limit`: too many at once, or too large.
    Limit,
    /// `unknown_session`: no session has this id.
    UnknownSession,
    /// `session_gone`: the session ran, and what it printed has been dropped since.
    SessionGone,
    /// `replaced`: another client has attached to the session.
    Replaced,
    /// `unknown_user`: the guest has no such user or group.
    UnknownUser,
    /// `not_executable`: the program is there and cannot be run.
    NotExecutable,
    /// `shutting_down`: the guest is going down.
    ShuttingDown,
    /// `io`: the operating system said something else; see the message and `errno`.
    Io,
    /// A code that a newer peer knows.
    Unknown,
}

impl ErrorCode {
    const ALL: [(Self, &str); 20] = [
        (Self::NotFound, "not_found"),
        (Self::PermissionDenied, "permission_denied"),
        (Self::NotADirectory, "not_a_directory"),
        (Self::IsADirectory, "is_a_directory"),
        (Self::NotAFile, "not_a_file"),
        (Self::NoSpace, "no_space"),
        (Self::ReadOnly, "read_only"),
        (Self::ChecksumMismatch, "checksum_mismatch"),
        (Self::SourceChanged, "source_changed"),
        (Self::UnsafeName, "unsafe_name"),
        (Self::Invalid, "invalid"),
        (Self::Unsupported, "unsupported"),
        (Self::Limit, "limit"),
        (Self::UnknownSession, "unknown_session"),
        (Self::SessionGone, "session_gone"),
        (Self::Replaced, "replaced"),
        (Self::UnknownUser, "unknown_user"),
        (Self::NotExecutable, "not_executable"),
        (Self::ShuttingDown, "shutting_down"),
        (Self::Io, "io"),
    ];

    /// The spelling on the wire; never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(code, _)| *code == self).map_or("unknown", |(_, name)| name)
    }

    /// The code of this spelling; [`ErrorCode::Unknown`] for one this version does not know.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(Self::Unknown, |(code, _)| *code)
    }
}

impl<C> Encode<C> for ErrorCode {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.str(self.name())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for ErrorCode {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(Self::from_name(d.str()?))
    }
}

/// Message 0x8f Error: why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[cbor(map)]
#[error("{}", ByteString::from(message.as_str()).to_printable())]
pub struct Fault {
    /// What kind of failure.
    #[n(0)]
    pub code: ErrorCode,
    /// One line for a person, naming what failed and on what.
    #[n(1)]
    pub message: String,
    /// The Linux error number, if the operating system refused.
    #[n(2)]
    pub errno: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_name() {
        for (code, name) in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(name), code);
        }
        assert_eq!(ErrorCode::from_name("from the future"), ErrorCode::Unknown);
    }
}
