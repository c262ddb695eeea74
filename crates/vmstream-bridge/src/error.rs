//! What can go wrong.

use std::io;

use bandsox_qmp::ClientError;
use vmstream::Finding;

use crate::address::Address;

/// Why a machine did not move.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// QEMU does not answer, or says no.
    #[error(transparent)]
    Qmp(#[from] ClientError),
    /// QEMU's contract could not be read.
    #[error("what the guest can see could not be read")]
    Contract(#[from] vmstream_qmp::ReadError),
    /// The destination does not wait for a guest.
    #[error("this QEMU is {status} and waits for no guest: start it with -incoming defer")]
    NotWaiting {
        /// Its run state.
        status: String,
    },
    /// The source has no guest to send.
    #[error("this QEMU waits for a guest itself: it can only receive one")]
    NoGuest,
    /// The source migrates already.
    #[error("this QEMU is migrating already ({status}): migrate_cancel ends that")]
    Busy {
        /// Its migration's state.
        status: String,
    },
    /// The source would send what cannot be turned into our stream.
    #[error("capability {name} cannot be bridged: turn it off (migrate_set_capability {name} off)")]
    Capability {
        /// Its name.
        name: String,
    },
    /// Nobody listens there, or nothing can listen there.
    #[error("{address}")]
    Address {
        /// Where.
        address: Address,
        /// What the operating system said.
        source: io::Error,
    },
    /// The other side sent no stream, a broken one, or nothing more.
    #[error("the other side's stream cannot be read")]
    Peer(#[from] vmstream::ReadError),
    /// The other side's stream is one, but not of this conversation.
    #[error("the other side does not speak as a bridge: {what}")]
    Talk {
        /// What is missing or wrong.
        what: &'static str,
    },
    /// The other side could not be written to.
    #[error("the other side takes no more")]
    Write(#[from] vmstream::WriteError),
    /// The other side gave up.
    #[error("the other side gave up: {finding}")]
    GaveUp {
        /// Why.
        finding: Box<Finding>,
    },
    /// QEMU's stream could not be turned into ours, or ours into QEMU's.
    #[error(transparent)]
    Transcode(#[from] vmstream_transcode::Error),
    /// QEMU's return path makes no sense.
    #[error("QEMU's return path cannot be read")]
    Answers(#[from] vmstream_qemu::ReadError),
    /// QEMU gave up.
    #[error("{who} gave up: {why}")]
    Qemu {
        /// Which.
        who: &'static str,
        /// What it says of it.
        why: String,
    },
    /// Somebody here wanted it to end.
    #[error("it was interrupted")]
    Stopped,
    /// The source gave up, and what became of its guest.
    #[error("{state}")]
    Source {
        /// What the guest does now.
        state: String,
        /// Why it did not move.
        source: Box<BridgeError>,
    },
    /// The destination has the guest, but the source may not know.
    #[error(
        "the guest is here ({status}), and its source may not know: see that it runs only once"
    )]
    Unconfirmed {
        /// What it does.
        status: String,
        /// What broke.
        source: Box<BridgeError>,
    },
    /// Something else could not be read or written.
    #[error("input or output failed")]
    Io(#[from] io::Error),
}

impl BridgeError {
    /// Whether it ended because somebody here wanted that.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Source { source, .. } => source.is_stop(),
            _ => false,
        }
    }

    /// The same as a finding, for the other side.
    pub(crate) fn finding(&self) -> Finding {
        use vmstream_transcode::Error::{Aborted, Refused};
        if let Self::GaveUp { finding }
        | Self::Transcode(Aborted { finding } | Refused { finding }) = self
        {
            return (**finding).clone();
        }
        Finding::new("gave-up", "", "device").because_of(self)
    }
}
