//! What a client has sent for a command's stdin.

use std::collections::VecDeque;

use bandsox_proto::v2::StdinAck;

/// A client that breaks the rules of stdin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InputError {
    /// Bytes are missing.
    #[error("stdin continues at {offset}, expected {expected}")]
    Gap {
        /// Where the client goes on.
        offset: u64,
        /// What has arrived.
        expected: u64,
    },
    /// More than the window.
    #[error("more stdin than the window of {} bytes allows", StdinAck::WINDOW)]
    Window,
}

/// Bytes between client and command.
#[derive(Debug, Default)]
pub(crate) struct Input {
    waiting: VecDeque<u8>,
    written: u64,
    ended: bool,
    /// The command reads no more; what comes is thrown away.
    closed: bool,
}

impl Input {
    /// How many bytes the command has got.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Takes what a client sent; what came before over another connection is skipped.
    pub(crate) fn take(&mut self, offset: u64, data: &[u8]) -> Result<(), InputError> {
        let expected = self.written.saturating_add(self.waiting.len() as u64);
        let Some(known) = expected.checked_sub(offset) else {
            return Err(InputError::Gap { offset, expected });
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let fresh = data.get(known..).unwrap_or_default();
        if self.ended && !fresh.is_empty() {
            return Err(InputError::Gap { offset, expected });
        }
        if self.closed {
            self.written = self.written.saturating_add(fresh.len() as u64);
            return Ok(());
        }
        let total = self.waiting.len().saturating_add(fresh.len()) as u64;
        if total > StdinAck::WINDOW {
            return Err(InputError::Window);
        }
        self.waiting.extend(fresh);
        Ok(())
    }

    /// The client says that there are `offset` bytes in all.
    pub(crate) fn end(&mut self, offset: u64) -> Result<(), InputError> {
        let expected = self.written.saturating_add(self.waiting.len() as u64);
        if offset > expected {
            return Err(InputError::Gap { offset, expected });
        }
        self.ended = true;
        Ok(())
    }

    /// What the command should get next.
    pub(crate) fn next(&self) -> &[u8] {
        self.waiting.as_slices().0
    }

    /// `count` bytes of [`Input::next`] have been written.
    pub(crate) fn wrote(&mut self, count: usize) {
        let count = count.min(self.waiting.len());
        self.waiting.drain(..count);
        self.written = self.written.saturating_add(count as u64);
    }

    /// Whether the command should see the end now.
    pub(crate) fn at_end(&self) -> bool {
        self.closed || (self.ended && self.waiting.is_empty())
    }

    /// The command reads no more.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        let count = self.waiting.len();
        self.wrote(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_twice_is_taken_once() {
        let mut input = Input::default();
        input.take(0, b"abc").expect("in order");
        input.wrote(2);

        input.take(0, b"abcd").expect("known bytes and a new one");
        input.take(2, b"cd").expect("all known");

        assert_eq!(input.next(), b"cd");
        assert_eq!(input.take(5, b"x"), Err(InputError::Gap { offset: 5, expected: 4 }));
    }

    #[test]
    fn a_client_that_ignores_the_window_is_refused() {
        let mut input = Input::default();
        let window = vec![0; 256 * 1024];

        input.take(0, &window).expect("a window");

        assert_eq!(input.take(256 * 1024, b"x"), Err(InputError::Window));
    }

    #[test]
    fn a_command_that_reads_no_more_takes_everything() {
        let mut input = Input::default();
        input.take(0, b"abc").expect("in order");
        input.close();

        input.take(3, b"def").expect("thrown away");

        assert_eq!((input.written(), input.next()), (6, &b""[..]));
    }
}
