//! Who may send how much on one connection.
//!
//! Each side says how large its receive buffer is (`buf_alloc`) and how much it has taken out of
//! it so far (`fwd_cnt`); the other never has more than the first in flight. All counts are
//! modulo 2^32.
//!
//! Source: VIRTIO 1.2, section 5.10.6.3 (buffer space management).

use std::num::Wrapping;

/// Credit of one connection, both ways.
#[derive(Clone, Debug)]
pub(crate) struct Credit {
    /// The guest's buffer and what it says to have taken out.
    guest_window: u32,
    guest_taken: Wrapping<u32>,
    /// What we have sent.
    sent: Wrapping<u32>,

    /// Our buffer, what has arrived in it and what has left it.
    window: u32,
    arrived: Wrapping<u32>,
    taken: Wrapping<u32>,

    /// What the guest was last told.
    told_window: u32,
    told_taken: Wrapping<u32>,
}

/// The guest sent more than it had credit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest sent {bytes} bytes with credit for {credit}")]
pub(crate) struct Overrun {
    pub(crate) bytes: u32,
    pub(crate) credit: u32,
}

/// A guest whose own buffer is smaller than this is assumed to send more than that all the same.
const LEAST_WINDOW: u32 = 4 << 10;

impl Credit {
    /// A connection that begins with a receive buffer of `window` bytes here and none there.
    pub(crate) fn new(window: u32) -> Self {
        Self {
            guest_window: 0,
            guest_taken: Wrapping(0),
            sent: Wrapping(0),
            window,
            arrived: Wrapping(0),
            taken: Wrapping(0),
            told_window: 0,
            told_taken: Wrapping(0),
        }
    }

    /// Takes note of what a packet from the guest says about its buffer.
    pub(crate) fn heard(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.guest_window = buf_alloc;
        self.guest_taken = Wrapping(fwd_cnt);
    }

    /// Bytes that may be sent now. A guest that claims to have taken more than was sent, or
    /// shrinks its buffer below what is in it, gets nothing until its claims make sense.
    pub(crate) fn sendable(&self) -> u32 {
        self.guest_window.saturating_sub((self.sent - self.guest_taken).0)
    }

    /// Takes note of bytes sent. At most [`sendable`](Self::sendable) of them.
    pub(crate) fn send(&mut self, bytes: u32) {
        self.sent += Wrapping(bytes);
    }

    /// Takes note of bytes that arrived.
    pub(crate) fn arrive(&mut self, bytes: u32) -> Result<(), Overrun> {
        let credit = self.window.saturating_sub(self.held());
        if bytes > credit {
            return Err(Overrun { bytes, credit });
        }
        self.arrived += Wrapping(bytes);
        Ok(())
    }

    /// Takes note of bytes that left our buffer.
    pub(crate) fn take(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.held(), "more bytes leave than are there");
        self.taken += Wrapping(bytes);
    }

    /// Bytes that arrived and have not left.
    pub(crate) fn held(&self) -> u32 {
        (self.arrived - self.taken).0
    }

    /// Our receive buffer, in bytes.
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// Makes our buffer larger. It never shrinks: the guest may already count on it.
    pub(crate) fn widen(&mut self, window: u32) {
        self.window = self.window.max(window);
    }

    /// Whether the guest should be told of room: it believes to have less than half of what it may
    /// use, and has at least a quarter more, or all.
    ///
    /// It may use no more than its own buffer is large: Linux caps its credit to that (since
    /// "vsock/virtio: cap TX credit to local buffer size", also in its 6.1 series). One that does
    /// not is told more often than it needs.
    pub(crate) fn is_worth_telling(&self) -> bool {
        let usable = |window: u32| window.min(self.guest_window.max(LEAST_WINDOW));
        let unread = |since: Wrapping<u32>| (self.arrived - since).0;
        let believed = usable(self.told_window).saturating_sub(unread(self.told_taken));
        let actual = usable(self.window).saturating_sub(unread(self.taken));
        let quarter = usable(self.window) / 4;
        believed < quarter * 2
            && actual > believed
            && (actual - believed >= quarter || actual == usable(self.window))
    }

    /// Bytes that the guest can have sent before it must be looked at, so that it never stalls: two
    /// looks make it worth telling of room, and leave a quarter.
    pub(crate) fn expected_from_guest(&self) -> u64 {
        u64::from(self.window.min(self.guest_window.max(LEAST_WINDOW))) * 3 / 8
    }

    /// Bytes after which to look whether the guest tells of room. Linux does when all but 64 KiB of
    /// its buffer has been taken, and goes on with what is left: rather a little early than late.
    pub(crate) fn expected_by_guest(&self) -> u64 {
        u64::from(self.guest_window) / 2
    }

    /// `buf_alloc` and `fwd_cnt` for a packet that is about to be sent.
    pub(crate) fn tell(&mut self) -> (u32, u32) {
        self.told_window = self.window;
        self.told_taken = self.taken;
        (self.window, self.taken.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One end of a connection in a model where nothing is lost.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Send(u32),
        Take(u32),
        Tell,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..100_000_u32).prop_map(Step::Send),
            (0..100_000_u32).prop_map(Step::Take),
            Just(Step::Tell),
        ]
    }

    proptest! {
        /// Two ends that keep the rules never overrun each other, however counts wrap.
        #[test]
        fn a_sender_within_its_credit_is_never_refused(
            steps in proptest::collection::vec(step(), 0..200),
            window in 1..300_000_u32,
            start in any::<u32>(),
        ) {
            let mut sender = Credit::new(0);
            let mut receiver = Credit::new(window);
            sender.sent = Wrapping(start);
            receiver.arrived = Wrapping(start);
            receiver.taken = Wrapping(start);
            let (alloc, fwd) = receiver.tell();
            sender.heard(alloc, fwd);

            for step in steps {
                match step {
                    Step::Send(bytes) => {
                        let bytes = bytes.min(sender.sendable());
                        sender.send(bytes);
                        prop_assert_eq!(receiver.arrive(bytes), Ok(()));
                    }
                    Step::Take(bytes) => receiver.take(bytes.min(receiver.held())),
                    Step::Tell => {
                        let (alloc, fwd) = receiver.tell();
                        sender.heard(alloc, fwd);
                    }
                }
                prop_assert!(receiver.held() <= window);
            }
        }

        /// Whatever a guest claims, no more than its claimed buffer is ever in flight.
        #[test]
        fn no_claim_of_the_guest_makes_us_send_more_than_its_window(
            alloc in any::<u32>(), fwd in any::<u32>(), sent in any::<u32>(),
        ) {
            let mut credit = Credit::new(0);
            credit.sent = Wrapping(sent);
            credit.heard(alloc, fwd);

            prop_assert!(credit.sendable() <= alloc);
        }

        /// A sender that stalls is always told in the end: no deadlock by silence.
        #[test]
        fn a_guest_without_credit_is_told_when_its_bytes_are_gone(
            window in 4..4_000_000_u32,
            guest_window in 4..4_000_000_u32,
            pieces in proptest::collection::vec(1..1_000_000_u32, 0..9),
        ) {
            let mut credit = Credit::new(window);
            credit.heard(guest_window, 0);
            credit.tell();
            credit.arrive(window.min(guest_window.max(LEAST_WINDOW))).expect("within the window");
            prop_assert!(!credit.is_worth_telling());

            for piece in pieces {
                credit.take(piece.min(credit.held()));
            }
            credit.take(credit.held());

            prop_assert!(credit.is_worth_telling());
        }
    }

    #[test]
    fn one_byte_over_the_credit_is_refused_by_number() {
        let mut credit = Credit::new(100);
        credit.arrive(60).expect("within the window");

        assert_eq!(credit.arrive(41), Err(Overrun { bytes: 41, credit: 40 }));
    }
}
