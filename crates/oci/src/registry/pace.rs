//! Transfers that come to next to nothing: a byte now and then is no progress.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::blobs::Patience;

/// A transfer that fails when too little of it comes. Only the time that is spent waiting for it counts, so that a slow disk
/// of ours is not the registry's fault.
pub(crate) struct Paced<R> {
    inner: R,
    patience: Patience,
    /// In the current window.
    waited: Duration,
    got: u64,
}

/// What [`Paced`] fails with.
#[derive(Debug, thiserror::Error)]
#[error("fewer than {least} bytes came in {} s", window.as_secs())]
struct TooSlow {
    least: u64,
    window: Duration,
}

impl<R> Paced<R> {
    pub(super) fn new(inner: R, patience: &Patience) -> Self {
        Self { inner, patience: patience.clone(), waited: Duration::ZERO, got: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let got = self.inner.read(buffer)?;
        self.waited = self.waited.saturating_add(start.elapsed());
        self.got = self.got.saturating_add(got as u64);
        if got > 0 && self.waited >= self.patience.window {
            let Patience { least, window, .. } = self.patience;
            if self.got < least {
                return Err(io::Error::new(io::ErrorKind::TimedOut, TooSlow { least, window }));
            }
            (self.waited, self.got) = (Duration::ZERO, 0);
        }
        Ok(got)
    }
}
