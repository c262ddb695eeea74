//! A layer's content: decompressed in one thread, hashed and read in another.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use sha2::{Digest as _, Sha256};

use super::error::TooMuch;
use crate::archive::decoder_of_layers;
use crate::digest;

/// The decompressed bytes of a layer.
///
/// Every byte that is read is hashed, and read until the end it is checked whether there are too many.
pub(super) struct Content<'a> {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// Where chunks go that were read, to be filled again.
    spare: Sender<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
    hasher: Sha256,
    total: u64,
    limit: u64,
    on_chunk: &'a mut dyn FnMut(),
}

/// The other end of a [`Content`], for the thread that decompresses.
pub(super) struct Decompressor {
    chunks: SyncSender<io::Result<Vec<u8>>>,
    spare: Receiver<Vec<u8>>,
}

/// Both ends; at most `limit` bytes come through, and `on_chunk` is called from time to time while they do.
pub(super) fn pipe(limit: u64, on_chunk: &mut dyn FnMut()) -> (Decompressor, Content<'_>) {
    let (to_reader, chunks) = sync_channel(QUEUE);
    let (to_decompressor, spare) = channel();
    let content = Content {
        chunks,
        spare: to_decompressor,
        current: Vec::new(),
        used: 0,
        hasher: Sha256::new(),
        total: 0,
        limit,
        on_chunk,
    };
    (Decompressor { chunks: to_reader, spare }, content)
}

impl Decompressor {
    /// Decompresses the whole of `blob`, or until nobody reads on; `consumed` counts the compressed bytes.
    pub(super) fn run(self, blob: &File, consumed: &AtomicU64) {
        let result = decoder_of_layers(Blob { file: blob, consumed }).and_then(|mut input| {
            while self.pass_on(&mut input)? {}
            Ok(())
        });
        if let Err(error) = result {
            // If nobody reads on, nobody wants to know.
            drop(self.chunks.send(Err(error)));
        }
    }

    /// Fills a chunk and sends it; `false` at the end.
    fn pass_on(&self, input: &mut impl Read) -> io::Result<bool> {
        let mut chunk = self.spare.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let filled = fill(input, &mut chunk);
        let (Ok(got) | Err((got, _))) = filled;
        chunk.truncate(got);
        let is_wanted = got == 0 || self.chunks.send(Ok(chunk)).is_ok();
        match filled {
            Err((_, error)) => Err(error),
            Ok(got) => Ok(is_wanted && got == CHUNK),
        }
    }
}

impl Content<'_> {
    /// Hex digest and number of the bytes that were read. All of them, if the end was reached.
    pub(super) fn finish(self) -> (String, u64) {
        (digest::hex(&self.hasher.finalize()), self.total)
    }

    /// Bytes that were read.
    pub(super) fn position(&self) -> u64 {
        self.total.saturating_sub((self.current.len() as u64).saturating_sub(self.used as u64))
    }

    /// Reads to the end; says where something other than zeros begins.
    pub(super) fn drain(&mut self) -> io::Result<Option<u64>> {
        loop {
            let start = self.position();
            let rest = self.current.get(self.used..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte != 0) {
                return Ok(Some(start.saturating_add(at as u64)));
            }
            self.used = self.current.len();
            if !self.next_chunk()? {
                return Ok(None);
            }
        }
    }

    /// Waits for the next chunk; `false` at the end.
    fn next_chunk(&mut self) -> io::Result<bool> {
        let Ok(next) = self.chunks.recv() else {
            return Ok(false);
        };
        let next = next?;
        self.total = self.total.saturating_add(next.len() as u64);
        if self.total > self.limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, TooMuch { limit: self.limit }));
        }
        self.hasher.update(&next);
        let last = std::mem::replace(&mut self.current, next);
        self.used = 0;
        // The decompressor may have ended already.
        drop(self.spare.send(last));
        (self.on_chunk)();
        Ok(true)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.current.len() && !self.next_chunk()? {
            return Ok(0);
        }
        let rest = self.current.get(self.used..).unwrap_or_default();
        let got = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..got), rest.get(..got)) {
            to.copy_from_slice(from);
        }
        self.used = self.used.saturating_add(got);
        Ok(got)
    }
}

/// A file read from its start, wherever its own position is.
struct Blob<'a> {
    file: &'a File,
    consumed: &'a AtomicU64,
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.consumed.load(Ordering::Relaxed))?;
        self.consumed.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// Reads until `buffer` is full or the input ends. What came before an error is not lost.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, (usize, io::Error)> {
    let mut filled = 0;
    loop {
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        match input.read(rest) {
            Ok(0) => return Ok(filled),
            Ok(got) => filled = filled.saturating_add(got),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((filled, error)),
        }
    }
}

/// Large enough that handing one over costs nothing beside what is done with it, small enough for a processor's cache.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait, so that neither thread waits for the other at every one.
const QUEUE: usize = 8;
