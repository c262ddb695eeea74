//! How long connecting again is worth it.

use std::time::{Duration, Instant};

/// How long connections may be lost one after the other before that is that.
pub(super) const RECONNECT_FOR: Duration = Duration::from_secs(60);

/// A connection that lasted this long was a good one, even if the command had nothing to say.
const STEADY: Duration = Duration::from_secs(5);

/// Since when no connection has been of use.
#[derive(Debug, Default)]
pub(super) struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Something arrived that had not arrived before.
    pub(super) fn renew(&mut self) {
        self.since = None;
    }

    /// A connection that was made at `made` is lost `now`; whether to try another one.
    pub(super) fn lasts(&mut self, made: Instant, now: Instant) -> bool {
        if now.saturating_duration_since(made) >= STEADY {
            self.renew();
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since) <= RECONNECT_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_connection_lost_after_a_long_silence_is_replaced() {
        let (mut patience, start) = (Patience::default(), Instant::now());

        assert!(patience.lasts(start, start + 3600 * SECOND));
        // And the next, after half a minute of more silence, and one more.
        assert!(patience.lasts(start + 3600 * SECOND, start + 3640 * SECOND));
        assert!(patience.lasts(start + 3640 * SECOND, start + 3680 * SECOND));
    }

    #[test]
    fn connections_lost_as_soon_as_they_are_made_try_it_for_a_minute() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        let tries = (0..).take_while(|n| patience.lasts(start + *n * SECOND, start + *n * SECOND));

        assert_eq!(tries.last(), Some(60));
    }

    #[test]
    fn whatever_arrives_renews_it() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        assert!(patience.lasts(start, start));

        patience.renew();

        assert!(patience.lasts(start + 100 * SECOND, start + 100 * SECOND));
    }
}
