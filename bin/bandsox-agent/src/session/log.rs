//! What a command has printed and its client has not confirmed.

use std::collections::VecDeque;

use bandsox_proto::v2::{Kind, StreamName, encode_frame};

/// Most bytes kept; then the command waits for its client.
const CAPACITY: usize = 1024 * 1024;

/// What a piece costs beside its bytes, so that many tiny ones stay within bounds too.
const OVERHEAD: usize = 64;

/// Numbered pieces of output.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pieces: VecDeque<(StreamName, Box<[u8]>)>,
    first_seq: u64,
    cost: usize,
}

impl Log {
    /// The number of the first piece that is kept, or that comes next.
    pub(crate) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The number of the piece that comes next.
    pub(crate) fn next_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.pieces.len() as u64)
    }

    /// Whether another piece may be kept.
    pub(crate) fn has_room(&self) -> bool {
        self.cost < CAPACITY
    }

    /// Bytes held, roughly.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    pub(crate) fn push(&mut self, stream: StreamName, data: &[u8]) {
        self.cost = self.cost.saturating_add(data.len()).saturating_add(OVERHEAD);
        self.pieces.push_back((stream, data.into()));
    }

    /// Forgets every piece below `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        while self.first_seq < seq && self.drop_oldest() {}
    }

    /// Forgets the oldest pieces until there is room.
    pub(crate) fn make_room(&mut self) {
        while !self.has_room() && self.drop_oldest() {}
    }

    /// Appends the piece of this number, as a frame, to `out`; `false` if there is none.
    pub(crate) fn encode(&self, seq: u64, out: &mut Vec<u8>) -> bool {
        let Some((stream, data)) = self.piece(seq) else {
            return false;
        };
        // A piece is far smaller than a frame.
        encode_frame(Kind::Output, &[&seq.to_le_bytes(), &[stream.byte()], data], out).is_ok()
    }

    fn piece(&self, seq: u64) -> Option<(StreamName, &[u8])> {
        let index = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        self.pieces.get(index).map(|(stream, data)| (*stream, &**data))
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, data)) = self.pieces.pop_front() else {
            return false;
        };
        self.cost = self.cost.saturating_sub(data.len().saturating_add(OVERHEAD));
        self.first_seq = self.first_seq.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_when_pieces_are_forgotten() {
        let mut log = Log::default();
        for n in 0..10_u8 {
            log.push(StreamName::Stdout, &[n]);
        }

        log.acknowledge(4);
        log.acknowledge(2);

        assert_eq!((log.first_seq(), log.next_seq()), (4, 10));
        assert_eq!(log.piece(3), None);
        assert_eq!(log.piece(4), Some((StreamName::Stdout, &[4][..])));
        assert!(!log.encode(10, &mut Vec::new()));
        log.acknowledge(u64::MAX);
        assert_eq!((log.first_seq(), log.cost()), (10, 0));
    }

    #[test]
    fn a_flood_of_single_bytes_is_bounded_too() {
        let mut log = Log::default();
        let mut count = 0;
        while log.has_room() {
            log.push(StreamName::Stderr, b"x");
            count += 1;
        }

        assert!(count < 20_000);
        log.push(StreamName::Stderr, b"x");
        log.make_room();
        assert!(log.has_room());
    }
}
