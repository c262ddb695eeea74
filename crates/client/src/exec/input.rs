//! Standard input between being read and being confirmed.

use super::conversation::Misbehaved;

/// Standard input on its way.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Bytes from `base` on that the agent has not confirmed.
    pub(super) kept: Vec<u8>,
    /// Offset of the first kept byte.
    pub(super) base: u64,
    /// Offset of the first byte not sent on this connection.
    pub(super) sent: u64,
    pub(super) ended: bool,
    pub(super) end_sent: bool,
}

impl Input {
    /// Offset of the first byte that was not read yet.
    pub(super) fn end(&self) -> u64 {
        self.base.saturating_add(u64::try_from(self.kept.len()).unwrap_or(u64::MAX))
    }

    /// Forgets what lies before `offset`; refuses what cannot be.
    pub(super) fn confirm(&mut self, offset: u64) -> Result<(), Misbehaved> {
        let high = self.end();
        if offset < self.base || offset > high {
            return Err(Misbehaved::Input { found: offset, low: self.base, high });
        }
        let confirmed = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.kept.drain(..confirmed.min(self.kept.len()));
        self.base = offset;
        self.sent = self.sent.max(offset);
        Ok(())
    }
}
