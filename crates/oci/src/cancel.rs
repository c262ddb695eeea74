//! Stopping early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Says to everything that works on one pull that it is over.
#[derive(Debug, Default)]
pub(crate) struct Cancel(AtomicBool);

impl Cancel {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps, in pieces; `false` if it was cut short.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        let start = Instant::now();
        while !self.is_set() {
            let Some(rest) = time.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero())
            else {
                return true;
            };
            std::thread::sleep(rest.min(STEP));
        }
        false
    }
}

const STEP: Duration = Duration::from_millis(50);
