//! How often to look while bulk data moves.
//!
//! A look costs this thread a sleep, some 25 microseconds of processor time on a virtual machine;
//! a look that comes too late costs the guest, which by then has run out of credit. So the next
//! look is due when the guest, at its present speed, has used up most of what it has.

use std::time::{Duration, Instant};

use crate::device::{Pass, Tally};

/// Bytes in one pass that count as bulk.
const BULK: u64 = 16 << 10;

/// Without a bulk pass for this long, or for several looks, kicks are asked for again.
const LINGER: Duration = Duration::from_millis(8);

/// Shortest and longest time between two looks.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(2);

/// When a look finds nothing, those after it come at this fraction of the usual time: what they miss the guest by, it
/// may stand idle.
const RETRY: u32 = 8;

/// The present pace.
pub(crate) struct Pace {
    /// When bytes last moved, if that was bulk and not long ago.
    moved_at: Option<Instant>,
    /// Nanoseconds that the guest takes for a byte, in 2^-10.
    cost: u64,
    /// Time to the next look after one that found something.
    usual: Duration,
}

impl Pace {
    pub(crate) fn new() -> Self {
        // About 160 MB/s, until it is known better.
        Self { moved_at: None, cost: 6 << 10, usual: SHORTEST }
    }

    /// Whether bulk data moves.
    pub(crate) fn is_kept(&self) -> bool {
        self.moved_at.is_some()
    }

    /// How long to pause after a pass; `None` when it is time to sleep.
    pub(crate) fn after(&mut self, pass: Pass, now: Instant) -> Option<Duration> {
        let Pass { tally: Tally { moved, expected }, is_streaming, unfinished: _ } = pass;
        if moved < BULK {
            let since = now.duration_since(self.moved_at?);
            // A source that has run dry may be about to go on; one that has ended is about to be
            // answered.
            let patience = if is_streaming { LINGER } else { self.usual * 2 };
            if since > patience {
                self.moved_at = None;
                return None;
            }
            return Some((self.usual / RETRY).max(SHORTEST));
        }
        if let Some(before) = self.moved_at.replace(now) {
            let took = u64::try_from(now.duration_since(before).as_nanos()).unwrap_or(u64::MAX);
            let cost = took.saturating_mul(1 << 10) / moved;
            // Slowly up, since a late look makes the guest seem slow; quickly down.
            self.cost = if cost < self.cost {
                self.cost / 2 + cost / 2
            } else {
                self.cost - self.cost / 8 + cost / 8
            };
        }
        let wait = Duration::from_nanos(self.cost.saturating_mul(expected) >> 10);
        self.usual = wait.clamp(SHORTEST, LONGEST);
        Some(self.usual)
    }
}
