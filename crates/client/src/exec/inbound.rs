//! Bytes from the agent, cut into messages as they arrive.

use bandsox_proto::v2::{DecodeError, MAX_PAYLOAD, Reply, preamble};

/// Collects what arrives in pieces. Holds at most one message beyond what was pushed last.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    bytes: Vec<u8>,
    /// How much of `bytes` was taken already.
    start: usize,
    greeted: bool,
}

/// What the agent said that it must not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum InboundError {
    /// It does not start as an agent does.
    #[error(transparent)]
    Preamble(#[from] preamble::PreambleError),
    /// A message that is longer than any may be.
    #[error("message of {length} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLong {
        /// Its length in bytes, as announced.
        length: usize,
    },
    /// A message that makes no sense.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Inbound {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message that is complete.
    pub(super) fn next_reply(&mut self) -> Result<Option<Reply>, InboundError> {
        if !self.greeted {
            let Some(greeting) = self.unread().first_chunk::<{ preamble::AGENT.len() }>() else {
                return Ok(None);
            };
            preamble::receive_agent(&mut greeting.as_slice())?;
            self.greeted = true;
            self.take(preamble::AGENT.len());
        }
        let Some((header, rest)) = self.unread().split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [a, b, c, d, kind] = *header;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(InboundError::TooLong { length });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let reply = Reply::decode(kind, payload)?;
        self.take(header.len().saturating_add(length));
        Ok(Some(reply))
    }

    fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn take(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.bytes.len());
    }
}
