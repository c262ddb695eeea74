//! Devices that are handed on before they are understood, as a connection brings them.

use std::io::{self, Read};
use std::ops::Range;

use vmstream_qemu::{Description, Event, Reader, Sink};

use super::devices::{Kind, Told, told};

/// A connection that brings so many bytes at a time.
struct Connection<'b> {
    rest: &'b [u8],
    at_once: usize,
}

impl Read for Connection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.at_once.min(buffer.len());
        self.rest.read(&mut buffer[..count])
    }
}

/// What comes, in order.
#[derive(Default)]
struct Heard {
    events: Vec<Told>,
    ahead: Vec<u8>,
    /// Where the first bytes ahead stand in the stream, and how many came before the last piece.
    start: Option<u64>,
    early: u64,
    is_over: bool,
}

impl Sink for Heard {
    fn event(&mut self, range: Range<u64>, event: &Event<'_>) -> io::Result<()> {
        let told = Told::of(range, event);
        assert!(!self.is_over || told.kind != Kind::Device, "{event:?} behind the last piece");
        self.events.push(told);
        Ok(())
    }

    fn ahead(&mut self, bytes: &[u8], is_last: bool) -> io::Result<()> {
        assert!(!self.is_over, "one piece is the last");
        self.is_over = is_last;
        let end = self.events.last().map_or(0, |last| last.range.end);
        // A stream whose description is there at once has but one piece, behind its events.
        let start = self.start.get_or_insert(end);
        assert!(is_last || *start == end, "devices wait for what is ahead of them");
        self.ahead.extend_from_slice(bytes);
        if !is_last {
            self.early = len64(self.ahead.len());
        }
        Ok(())
    }
}

/// Reads a connection that brings `at_once` bytes at a time.
pub(super) fn check(bytes: &[u8], at_once: usize) {
    let mut heard = Heard::default();
    let mut source = Connection { rest: bytes, at_once };
    let live = Reader::new().live().read(&mut source, &mut heard);
    let given = bytes.len() - source.rest.len();

    let start = usize::try_from(heard.start.unwrap_or(0)).expect("short");
    let there = bytes.get(start..).expect("what was handed on was there");
    assert!(there.starts_with(&heard.ahead), "the bytes of the stream, from the first device on");
    if heard.is_over {
        assert_eq!(start + heard.ahead.len(), given, "all that was read");
        assert!(is_described(&heard.ahead), "the last piece waits for a description");
    }

    let (all, whole) = told(|sink| Reader::new().read(&mut &*bytes, sink));
    if whole.is_err() {
        return;
    }
    assert!(live.is_ok(), "{live:?}");
    if all.iter().any(|told| told.kind == Kind::Trailing) {
        return;
    }
    let end = heard.events.iter().find(|told| told.kind == Kind::End).map(|told| told.range.start);
    let early = len64(start) + heard.early;
    assert!(end.is_none_or(|end| early <= end), "the end marker comes last");
    let is_told = |told: &&Told| told.kind != Kind::Memory;
    let mut all = all.iter().filter(is_told);
    assert!(heard.events.iter().filter(is_told).all(|told| all.next() == Some(told)));
}

/// Whether a description stands in the bytes behind an end marker.
fn is_described(bytes: &[u8]) -> bool {
    bytes.windows(6).enumerate().any(|(at, head)| {
        let [0, 6, length @ ..] = head else { return false };
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(at + 6));
        let json = end.and_then(|end| bytes.get(at + 6..end));
        json.is_some_and(|json| Description::parse(json, 0).is_ok())
    })
}

fn len64(length: usize) -> u64 {
    u64::try_from(length).expect("short")
}
