//! Bytes of QEMU's stream that are handed on before it is known what they mean.

use std::io::{self, IoSlice, Write};

use vmstream::message::Note;
use vmstream::{Event, Map, Value as Ours};

use crate::error::Error;

/// The name of the notes that have them.
const NAME: &str = "qemu-ahead";

/// Bytes of devices that a machine has at most; what a reader of QEMU's holds.
const MOST: usize = 20 << 20;

/// Bytes of devices before the records that explain them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    /// Whether this is the last piece: QEMU starts the guest when it has it.
    pub(crate) is_last: bool,
}

impl<'a> Piece<'a> {
    pub(crate) fn to_note(self) -> Note {
        let bytes = Ours::Bytes(self.bytes.to_vec());
        let value = Map::new().with("bytes", bytes).with("last", self.is_last);
        Note { name: NAME.to_owned(), value: Ours::Map(value) }
    }

    /// Whether a note has a piece.
    pub(crate) fn is_in(note: &Note) -> bool {
        note.name == NAME
    }

    pub(crate) fn of_note(note: &'a Note) -> Option<Self> {
        let bytes = note.value.at("bytes")?.as_bytes()?;
        Some(Self { bytes, is_last: note.value.at("last")?.as_bool()? })
    }
}

/// Whether QEMU has all of its stream with this event, and starts the guest, though records may follow.
#[must_use]
pub fn is_last_ahead(event: &Event) -> bool {
    let Event::Note(note) = event else { return false };
    Piece::is_in(note) && Piece::of_note(note).is_some_and(|piece| piece.is_last)
}

/// An output that may have been given bytes ahead: what is written then must be these very bytes.
#[derive(Debug)]
pub(crate) struct Given<W> {
    out: W,
    /// What was given, and how much of it has been written since.
    ahead: Vec<u8>,
    written: usize,
}

impl<W: Write> Given<W> {
    pub(crate) const fn new(out: W) -> Self {
        Self { out, ahead: Vec::new(), written: 0 }
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }

    /// Gives bytes whose writing follows.
    pub(crate) fn give(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.ahead.len().saturating_add(bytes.len()) > MOST {
            return Err(Error::notes("more is given ahead than a machine has"));
        }
        self.out.write_all(bytes)?;
        self.out.flush()?;
        self.ahead.extend_from_slice(bytes);
        Ok(())
    }

    /// All that was given has been written.
    pub(crate) fn expect_written(&self) -> Result<(), Error> {
        if self.written < self.ahead.len() {
            return Err(Error::notes("more was given ahead than there is"));
        }
        Ok(())
    }
}

impl<W: Write> Write for Given<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let given = self.ahead.get(self.written..).unwrap_or_default();
        if given.is_empty() {
            return self.out.write(bytes);
        }
        let count = given.len().min(bytes.len());
        if given.get(..count) != bytes.get(..count) {
            let what = "what was given ahead is not what the records say";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.written = self.written.saturating_add(count);
        Ok(count)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.written == self.ahead.len() {
            return self.out.write_vectored(slices);
        }
        slices.iter().find(|slice| !slice.is_empty()).map_or(Ok(0), |slice| self.write(slice))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_not_written_again() {
        let mut out = Given::new(Vec::new());
        out.write_all(b"ab").expect("written");
        out.give(b"cd").expect("given");
        out.give(b"ef").expect("given");
        out.write_all(b"cde").expect("the same");
        out.expect_written().expect_err("f is missing");
        out.write_all(b"fgh").expect("the same, and more");
        out.expect_written().expect("all of it");
        assert_eq!(out.into_inner(), b"abcdefgh");
    }

    #[test]
    fn what_differs_from_what_was_given_is_refused_before_anything_is_written() {
        let mut out = Given::new(Vec::new());
        out.give(b"cd").expect("given");
        out.write_all(b"cx").expect_err("it differs");
        assert_eq!(out.into_inner(), b"cd");
    }

    #[test]
    fn no_more_is_held_than_a_machine_has() {
        let mut out = Given::new(io::sink());
        let piece = vec![0; 1 << 20];
        let given = (0..).take_while(|_| out.give(&piece).is_ok()).count();
        assert_eq!(given, MOST >> 20);
    }
}
