//! What a stream of ours is made of, in bytes.

use std::collections::BTreeMap;
use std::fmt;

use vmstream::frame::{HEADER_BYTES, Kind};
use vmstream::{Event, Reader};

/// Bytes on the wire and inflated, by kind of frame, and frames.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    pub(crate) kinds: BTreeMap<&'static str, (u64, u64, u64)>,
    pub(crate) total: u64,
    /// Of pages as they are.
    pub(crate) data: u64,
    pub(crate) memory: u64,
}

impl Sizes {
    pub(crate) fn of(stream: &[u8]) -> Self {
        let mut reader = Reader::new(stream);
        let mut sizes = Self { total: stream.len() as u64, ..Self::default() };
        while let Some(event) = reader.next_event().expect("valid") {
            let header = reader.frame().expect("a frame").header;
            let name = Kind::of(header.kind).expect("a known kind").name();
            let entry = sizes.kinds.entry(name).or_default();
            entry.0 += header.length + HEADER_BYTES as u64;
            entry.1 += reader.metadata_bytes().len() as u64;
            entry.2 += 1;
            if let Event::Pages(pages) = &event {
                sizes.data += pages.stored().len() as u64;
            }
            if let Event::Manifest(manifest) = &event {
                sizes.memory = manifest.memory.iter().map(|region| region.bytes).sum();
            }
        }
        reader.expect_end().expect("it ends");
        sizes
    }

    pub(crate) fn wire(&self, kind: &str) -> u64 {
        self.kinds.get(kind).map_or(0, |entry| entry.0)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (wire, plain, frames)) in &self.kinds {
            write!(f, "{kind} {frames}: {wire} ({plain}); ")?;
        }
        let over = self.total - self.data;
        write!(f, "{over} over {} pages' bytes of {} memory", self.data, self.memory)
    }
}
