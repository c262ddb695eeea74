//! One request and what comes back.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use bandsox_proto::control::{ControlError, Op, Outcome, Progress, Reply, Request};
use serde::de::DeserializeOwned;

use super::Monitor;
use crate::packet::PacketError;

/// How long a monitor may take for what it does by itself: far longer than any does, on the
/// busiest host.
const ANSWER: Duration = Duration::from_secs(60);

/// Why a request was not done, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The monitor says why.
    #[error(transparent)]
    Refused(#[from] ControlError),
    /// The monitor closed the connection before it answered: the VM ended, or its monitor died.
    #[error("the monitor closed the connection")]
    Closed,
    /// The answer is not what the request asks for.
    #[error("the monitor's answer makes no sense")]
    Malformed(#[from] serde_json::Error),
    /// The answer should have brought a descriptor.
    #[error("the monitor's answer brought no channel")]
    NoDescriptor,
    /// The monitor lives and does not answer.
    #[error("the monitor has not answered for {} s", waited.as_secs())]
    Silent {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The socket failed.
    #[error("cannot talk to the monitor")]
    Packet(#[from] PacketError),
}

impl RequestError {
    /// What the user can do, if the monitor knows.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => refusal.hint.as_deref(),
            Self::Closed
            | Self::Malformed(_)
            | Self::NoDescriptor
            | Self::Silent { .. }
            | Self::Packet(_) => None,
        }
    }

    /// The monitor's code for the failure, if it is the monitor's.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            Self::Closed
            | Self::Malformed(_)
            | Self::NoDescriptor
            | Self::Silent { .. }
            | Self::Packet(_) => None,
        }
    }
}

impl Monitor {
    /// A request without descriptors or progress.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, op: Op) -> Result<T, RequestError> {
        Ok(self.request(op, &[], &mut |_| ())?.0)
    }

    /// Sends a request and waits for its end; descriptors that come with the answer are returned.
    ///
    /// What depends on the monitor alone is waited for with a limit; a transfer takes as long as
    /// the guest and the file take.
    pub(super) fn request<T: DeserializeOwned>(
        &mut self,
        op: Op,
        descriptors: &[BorrowedFd<'_>],
        progress: &mut dyn FnMut(u64),
    ) -> Result<(T, Vec<OwnedFd>), RequestError> {
        self.last_id = self.last_id.wrapping_add(1);
        let limit = match op {
            Op::PutFile { .. } | Op::GetFile { .. } => None,
            Op::Stop { timeout_ms } => {
                Some(ANSWER.saturating_add(Duration::from_millis(timeout_ms)))
            }
            Op::Status
            | Op::Pause
            | Op::Resume
            | Op::Kill
            | Op::OpenChannel { .. }
            | Op::Note { .. } => Some(ANSWER),
        };
        let request = Request { id: self.last_id, op };
        self.socket.send(&serde_json::to_vec(&request)?, descriptors)?;
        loop {
            if let Some(waited) = limit
                && !self.socket.wait(waited).map_err(PacketError::from)?
            {
                return Err(RequestError::Silent { waited });
            }
            let packet = self.socket.receive()?.ok_or(RequestError::Closed)?;
            let reply: Reply = serde_json::from_slice(&packet.bytes)?;
            if reply.id != self.last_id {
                // The end of a request that was given up before.
                continue;
            }
            match reply.outcome {
                Outcome::Ok(value) => {
                    return Ok((serde_json::from_value(value)?, packet.descriptors));
                }
                Outcome::Error(error) => return Err(error.into()),
                Outcome::Progress(Progress { bytes }) => progress(bytes),
            }
        }
    }
}
