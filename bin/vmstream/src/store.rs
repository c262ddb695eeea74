//! Memory put together from a stream's pages, as sparse files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use vmstream::chain::PageStore;
use vmstream::message::Ram;
use vmstream::{Piece, ReadError, Reader, is_zero};

use crate::input::Source;

/// Files of regions that are wanted; pages of others are passed over.
pub(crate) struct Files {
    pub(crate) page: u64,
    pub(crate) files: BTreeMap<u32, File>,
}

/// Pieces that are read and written at the same time.
const PIECES: usize = 2;

/// Bytes that are zero together or written together.
const BLOCK: usize = 4096;

impl Files {
    fn offset(&self, page: u64) -> u64 {
        page.saturating_mul(self.page)
    }

    /// Writes what is not zero; what is, becomes zero without taking space where it was.
    fn take_piece(&mut self, region: u32, at: u64, piece: &[u8]) -> io::Result<()> {
        let mut at = at;
        let mut left = piece;
        while !left.is_empty() {
            let zero = left.chunks(BLOCK).next().is_some_and(is_zero);
            let alike = left.chunks(BLOCK).take_while(|block| is_zero(block) == zero);
            let (run, rest) = left.split_at(alike.map(<[u8]>::len).sum());
            let length = u64::try_from(run.len()).unwrap_or(0);
            if zero {
                self.clear(region, at, length)?;
            } else if let Some(file) = self.files.get(&region) {
                file.write_all_at(run, at)?;
            }
            at = at.saturating_add(length);
            left = rest;
        }
        Ok(())
    }

    /// Makes bytes zero. Only what is there is touched, however much is not: a stream may speak of any amount of zeros.
    fn clear(&mut self, region: u32, at: u64, length: u64) -> io::Result<()> {
        let Some(file) = self.files.get(&region) else { return Ok(()) };
        let (zeros, end) = ([0; 64 << 10], at.saturating_add(length));
        let mut at = at;
        while at < end {
            at = match seek(file, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => return Ok(()),
                data => data?.min(end),
            };
            let hole = if at < end { seek(file, SeekFrom::Hole(at))?.min(end) } else { end };
            while at < hole {
                let most = usize::try_from(hole.saturating_sub(at)).unwrap_or(usize::MAX);
                let piece = zeros.get(..most.min(zeros.len())).unwrap_or_default();
                file.write_all_at(piece, at)?;
                at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(1));
            }
        }
        Ok(())
    }

    /// Takes the bytes of a ram frame: a piece is written while the next is read.
    pub(crate) fn take(&mut self, reader: &mut Reader<Source>, ram: &Ram) -> anyhow::Result<()> {
        let region = ram.region;
        let (free, empty) = channel();
        for _ in 0..PIECES {
            free.send(Piece::new(Piece::BEST))?;
        }
        let (full, filled) = channel::<(u64, usize, Piece)>();
        thread::scope(|scope| {
            let writes = scope.spawn(move || {
                for (at, count, mut piece) in filled {
                    let bytes = piece.bytes().get(..count).unwrap_or_default();
                    self.take_piece(region, at, bytes)?;
                    // Nobody wants it back when all has been read.
                    drop(free.send(piece));
                }
                Ok::<_, io::Error>(())
            });
            let read = read_pieces(reader, ram.offset, &empty, &full);
            drop(full);
            let written = writes.join().map_err(|_| io::Error::other("the writer is gone"))?;
            read?;
            Ok(written?)
        })
    }
}

/// Reads the bytes of a ram frame piece by piece, until all have come or nobody gives pieces back: who writes then says why.
fn read_pieces(
    reader: &mut Reader<Source>,
    mut at: u64,
    empty: &Receiver<Piece>,
    full: &Sender<(u64, usize, Piece)>,
) -> Result<(), ReadError> {
    while let Ok(mut piece) = empty.recv() {
        let count = reader.read_ram(piece.bytes())?;
        if count == 0 || full.send((at, count, piece)).is_err() {
            break;
        }
        at = at.saturating_add(u64::try_from(count).unwrap_or(0));
    }
    Ok(())
}

impl PageStore for Files {
    type Error = io::Error;

    fn write(&mut self, region: u32, first: u64, data: &[u8]) -> io::Result<()> {
        let at = self.offset(first);
        self.files.get(&region).map_or(Ok(()), |file| file.write_all_at(data, at))
    }

    fn zero(&mut self, region: u32, first: u64, count: u64) -> io::Result<()> {
        self.clear(region, self.offset(first), self.offset(count))
    }

    fn same(&mut self, region: u32, first: u64, count: u64, page: u64) -> io::Result<()> {
        let (at, from) = (self.offset(first), self.offset(page));
        let mut bytes = vec![0; usize::try_from(self.page).unwrap_or(0)];
        let Some(file) = self.files.get(&region) else { return Ok(()) };
        file.read_exact_at(&mut bytes, from)?;
        (0..count).try_for_each(|nth| {
            let step = nth.saturating_mul(u64::try_from(bytes.len()).unwrap_or(0));
            file.write_all_at(&bytes, at.saturating_add(step))
        })
    }
}
