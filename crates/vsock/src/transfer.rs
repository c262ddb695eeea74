//! Files straight to guest memory and back.
//!
//! The thread that asked for a transfer does the reading and writing; the device's thread only
//! *lends* it pieces of guest memory and passes them on once they are *repaid*. A slow disk
//! therefore holds up its own transfer and no other connection.
//!
//! ```text
//!   caller's thread                        device's thread
//!   Send/Receive ───────────────────────▶  has buffers and credit, or data
//!   preadv/pwritev ◀─────── Loan ────────  lends them
//!   hash, progress ───────── Repay ─────▶  puts them into the ring, or gives them back
//!            …                                  …
//!                  ◀─────── Done ────────
//! ```

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use vm_memory::{Bytes, GuestMemoryMmap};
use xxhash_rust::xxh64::Xxh64;

use crate::mailbox::{Command, Mailbox};
use crate::span::{OutsideMemory, Span, Spans};
use crate::stream::SpliceError;
use crate::table::ConnectionId;
use crate::vectored::IoVecs;

/// Work for the thread whose file is transferred.
pub(crate) enum Loan {
    /// The device knows that what comes next belongs to the file.
    Begun,
    /// Fill this guest memory from the file.
    Fill { memory: Arc<GuestMemoryMmap>, spans: Spans },
    /// Write this guest memory to the file.
    Store { memory: Arc<GuestMemoryMmap>, spans: Spans },
    /// Write these bytes to the file.
    StoreCopy(Vec<u8>),
    /// All bytes have been through.
    Done,
}

/// One transfer, as the caller's thread sees it.
pub(crate) struct Transfer<'a> {
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) id: ConnectionId,
    pub(crate) file: &'a File,
    pub(crate) extents: Extents<'a>,
    pub(crate) progress: &'a AtomicU64,
    /// Called when the device is ready for the file's bytes.
    pub(crate) on_begun: &'a dyn Fn() -> io::Result<()>,
}

/// Where in a file the bytes of a transfer lie, and how far it has got.
pub(crate) struct Extents<'a> {
    /// Those that are not finished: offset and length, in bytes.
    left: &'a [(u64, u64)],
    /// How much of the first is done, in bytes.
    done: u64,
}

impl<'a> Extents<'a> {
    pub(crate) fn new(extents: &'a [(u64, u64)]) -> Self {
        let mut all = Self { left: extents, done: 0 };
        all.advance(0);
        all
    }

    /// Sum of all lengths. Unit: bytes.
    pub(crate) fn total(extents: &[(u64, u64)]) -> u64 {
        extents.iter().fold(0, |sum, (_, len)| sum.saturating_add(*len))
    }

    /// Where the next byte lies, and how many lie together there.
    fn here(&self) -> (u64, u64) {
        self.left.first().map_or((0, 0), |(offset, len)| {
            (offset.saturating_add(self.done), len.saturating_sub(self.done))
        })
    }

    fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        while let Some(((_, len), rest)) = self.left.split_first()
            && self.done >= *len
        {
            self.done -= len;
            self.left = rest;
        }
    }
}

impl Transfer<'_> {
    /// Works until all bytes are through. Returns their hash.
    pub(crate) fn run(mut self, loans: &mpsc::Receiver<Loan>) -> Result<u64, SpliceError> {
        let mut hash = Xxh64::new(0);
        let mut scratch = vec![0; SCRATCH];
        loop {
            let done = match loans.recv().map_err(|_| SpliceError::Closed)? {
                Loan::Done => return Ok(hash.digest()),
                Loan::Begun => {
                    (self.on_begun)().map_err(|_| SpliceError::Closed)?;
                    continue;
                }
                Loan::Fill { memory, spans } => self.fill(&memory, spans, &mut hash, &mut scratch),
                Loan::Store { memory, spans } => {
                    hash_spans(&memory, spans.iter(), &mut hash, &mut scratch)
                        .map_err(|_| SpliceError::Closed)
                        .and_then(|()| self.store(&memory, spans))
                }
                Loan::StoreCopy(bytes) => {
                    hash.update(&bytes);
                    self.store_copy(&bytes)
                }
            };
            // A loan is repaid even when it failed: until then its buffers belong to nobody.
            let bytes = u32::try_from(*done.as_ref().unwrap_or(&0)).unwrap_or(0);
            self.mailbox.post(Command::Repay { id: self.id, bytes });
            let bytes = done?;
            self.progress.fetch_add(bytes, Ordering::Relaxed);
            if bytes == 0 {
                return Err(SpliceError::SourceEnded { offset: self.extents.here().0 });
            }
        }
    }

    /// Fills a loan, from as many extents as it takes.
    fn fill(
        &mut self,
        memory: &GuestMemoryMmap,
        spans: Spans,
        hash: &mut Xxh64,
        scratch: &mut [u8],
    ) -> Result<u64, SpliceError> {
        let mut filled = 0;
        let mut rest = spans;
        while rest.bytes() > 0 {
            let (offset, left) = self.extents.here();
            let here = u32::try_from(left).unwrap_or(u32::MAX).min(rest.bytes());
            let (front, behind) = rest.split(here);
            let got = match read_at(self.file, memory, &front, offset) {
                // What was read before is sent first; the next loan meets the error again.
                Err(_) if filled > 0 => break,
                result => result?,
            };
            let read = if got == here { front } else { front.split(got).0 };
            hash_spans(memory, read.iter(), hash, scratch).map_err(|_| SpliceError::Closed)?;
            self.extents.advance(u64::from(got));
            filled += u64::from(got);
            if got < here || here == 0 {
                break;
            }
            rest = behind;
        }
        Ok(filled)
    }

    fn store(&mut self, memory: &GuestMemoryMmap, spans: Spans) -> Result<u64, SpliceError> {
        let all = u64::from(spans.bytes());
        let mut rest = spans;
        while rest.bytes() > 0 {
            let (offset, left) = self.extents.here();
            let here = u32::try_from(left).unwrap_or(u32::MAX).min(rest.bytes());
            if here == 0 {
                return Err(SpliceError::Closed);
            }
            let (front, behind) = rest.split(here);
            self.store_at(memory, &front, offset)?;
            self.extents.advance(u64::from(here));
            rest = behind;
        }
        Ok(all)
    }

    /// Writes all of `spans` to where they lie together.
    fn store_at(
        &self,
        memory: &GuestMemoryMmap,
        spans: &Spans,
        mut offset: u64,
    ) -> Result<(), SpliceError> {
        let wanted = usize::try_from(spans.bytes()).map_err(|_| SpliceError::Closed)?;
        let mut vectors = IoVecs::new(memory);
        let pushed = vectors.push(spans.iter(), wanted).map_err(|_| SpliceError::Closed)?;
        while vectors.bytes() > 0 {
            let put = retry(|| vectors.write_at(self.file, offset))
                .map_err(|source| SpliceError::Write { offset, source })?;
            let put = nonzero(put, offset)?;
            vectors.advance(put);
            offset = offset.saturating_add(u64::try_from(put).unwrap_or(0));
        }
        debug_assert_eq!(pushed, wanted, "a loan has more pieces than one call takes");
        Ok(())
    }

    fn store_copy(&mut self, bytes: &[u8]) -> Result<u64, SpliceError> {
        use std::os::unix::fs::FileExt;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (offset, left) = self.extents.here();
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (front, behind) = rest.split_at_checked(here).ok_or(SpliceError::Closed)?;
            if front.is_empty() {
                return Err(SpliceError::Closed);
            }
            self.file
                .write_all_at(front, offset)
                .map_err(|source| SpliceError::Write { offset, source })?;
            self.extents.advance(u64::try_from(here).unwrap_or(0));
            rest = behind;
        }
        Ok(u64::try_from(bytes.len()).unwrap_or(0))
    }
}

/// Reads from a file into guest memory; 0 at its end.
fn read_at(
    file: &File,
    memory: &GuestMemoryMmap,
    spans: &Spans,
    offset: u64,
) -> Result<u32, SpliceError> {
    let wanted = usize::try_from(spans.bytes()).map_err(|_| SpliceError::Closed)?;
    let mut vectors = IoVecs::new(memory);
    vectors.push(spans.iter(), wanted).map_err(|_| SpliceError::Closed)?;
    let got = retry(|| vectors.read_at(file, offset))
        .map_err(|source| SpliceError::Read { offset, source })?;
    u32::try_from(got).map_err(|_| SpliceError::Closed)
}

fn nonzero(put: usize, offset: u64) -> Result<usize, SpliceError> {
    if put == 0 {
        return Err(SpliceError::Write { offset, source: io::ErrorKind::WriteZero.into() });
    }
    Ok(put)
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Hashes guest memory through a copy: the guest may write to it meanwhile, and a hash function
/// takes plain bytes.
fn hash_spans(
    memory: &GuestMemoryMmap,
    spans: impl Iterator<Item = Span>,
    hash: &mut Xxh64,
    scratch: &mut [u8],
) -> Result<(), OutsideMemory> {
    for span in spans {
        let (mut addr, mut left) =
            (span.addr, usize::try_from(span.len).map_err(|_| OutsideMemory)?);
        while left > 0 {
            let here = left.min(scratch.len());
            let part = scratch.get_mut(..here).ok_or(OutsideMemory)?;
            memory.read_slice(part, addr).map_err(|_| OutsideMemory)?;
            hash.update(part);
            addr.0 = addr.0.wrapping_add(u64::try_from(here).map_err(|_| OutsideMemory)?);
            left -= here;
        }
    }
    Ok(())
}

/// Bytes hashed at a time: small enough to stay in the first-level cache.
const SCRATCH: usize = 16 << 10;
