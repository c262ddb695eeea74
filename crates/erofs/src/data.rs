//! File data on its way into the image.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};

use super::disk::{BLOCK, BLOCK_LEN, NULL_BLOCK};

/// Where a regular file's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileData {
    /// In memory, to be written behind the inode.
    Inline(Box<[u8]>),
    /// In blocks of the image.
    Blocks {
        /// Length in bytes, holes included.
        size: u64,
        /// A chunk is `BLOCK << chunk_bits` bytes.
        chunk_bits: u8,
        /// In order; what no run covers is a hole.
        runs: Vec<Run>,
    },
}

/// Chunks that lie side by side both in the file and in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First chunk in the file.
    chunk: u64,
    /// How many chunks.
    chunks: u64,
    /// First block in the image.
    block: u32,
}

/// Why data could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The source failed.
    #[error("could not read the data")]
    Source(#[source] io::Error),
    /// The image could not be written.
    #[error("could not write the image")]
    Image(#[source] io::Error),
    /// The file alone is over its limit.
    #[error("a file of {size} bytes is over the limit of {limit} bytes")]
    FileTooLarge {
        /// How large it says it is.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
    /// The image would be.
    #[error("the image is over the limit of {limit} bytes")]
    ImageTooLarge {
        /// How large it may be.
        limit: u64,
    },
}

impl FileData {
    /// Bytes that are held in memory until the end.
    pub(super) fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Blocks { runs, .. } => runs.len().saturating_mul(size_of::<Run>()),
        }
    }
}

impl Run {
    /// First block and number of blocks that hold data of a file of `size` bytes.
    pub(super) fn blocks(self, size: u64, chunk_bits: u8) -> (u64, u64) {
        let before = self.chunk << chunk_bits;
        let left = size.div_ceil(BLOCK).saturating_sub(before);
        (self.block.into(), (self.chunks << chunk_bits).min(left))
    }
}

/// How [`FileData::Blocks`] goes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// All blocks in one piece, from this one on.
    Contiguous(u32),
    /// A map of this many chunks.
    Map(u64),
}

impl FileData {
    /// The cheapest layout that says the same.
    pub(super) fn stored(size: u64, chunk_bits: u8, runs: &[Run]) -> Stored {
        let chunks = size.div_ceil(BLOCK << chunk_bits);
        match runs {
            [run] if run.chunk == 0 && run.chunks == chunks => Stored::Contiguous(run.block),
            _ => Stored::Map(chunks),
        }
    }

    /// The block of every chunk, [`NULL_BLOCK`] for holes, in pieces.
    pub(super) fn map(chunks: u64, chunk_bits: u8, runs: &[Run]) -> impl Iterator<Item = u32> {
        let mut runs = runs.iter().peekable();
        (0..chunks).map(move |chunk| {
            while runs.next_if(|run| run.chunk.saturating_add(run.chunks) <= chunk).is_some() {}
            let run = runs.peek().filter(|run| run.chunk <= chunk);
            run.map_or(NULL_BLOCK, |run| {
                let blocks = chunk.saturating_sub(run.chunk) << chunk_bits;
                run.block.saturating_add(u32::try_from(blocks).unwrap_or(NULL_BLOCK))
            })
        })
    }
}

/// Appends blocks to the image.
#[derive(Debug)]
pub(super) struct BlockWriter {
    out: BufWriter<File>,
    next: u32,
    limit_bytes: u64,
    limit_file_bytes: u64,
    inline_left: usize,
}

impl BlockWriter {
    /// Starts behind the superblock's block.
    pub(super) fn new(
        mut image: File,
        limit_bytes: u64,
        limit_file_bytes: u64,
    ) -> io::Result<Self> {
        image.seek(SeekFrom::Start(BLOCK))?;
        let out = BufWriter::with_capacity(1 << 20, image);
        Ok(Self { out, next: 1, limit_bytes, limit_file_bytes, inline_left: INLINE_TOTAL })
    }

    /// The block that is written next.
    pub(super) fn position(&self) -> u32 {
        self.next
    }

    /// Stores a file of `size` bytes whose data lies at `extents` (offset and length, in order, without overlap) and is
    /// read from `source`, extent by extent.
    ///
    /// Runs of zeros of 64 KiB and more become holes whatever the source calls them, so that the same content gives the
    /// same image.
    pub(super) fn store(
        &mut self,
        size: u64,
        extents: &[(u64, u64)],
        source: &mut dyn Read,
    ) -> Result<FileData, StoreError> {
        if size > self.limit_file_bytes {
            return Err(StoreError::FileTooLarge { size, limit: self.limit_file_bytes });
        }
        if let Ok(small) = usize::try_from(size)
            && small <= INLINE_FILE
            && small <= self.inline_left
        {
            self.inline_left = self.inline_left.saturating_sub(small);
            let mut bytes = vec![0; small];
            Extents::new(extents).fill(0, &mut bytes, source).map_err(StoreError::Source)?;
            return Ok(FileData::Inline(bytes.into()));
        }
        let chunk_bits = chunk_bits(size);
        let mut runs = Runs { done: Vec::new(), chunk_bits, zeros: 0, next_chunk: 0 };
        self.store_chunks(size, Extents::new(extents), source, &mut runs)?;
        Ok(FileData::Blocks { size, chunk_bits, runs: runs.done })
    }

    fn store_chunks(
        &mut self,
        size: u64,
        mut extents: Extents<'_>,
        source: &mut dyn Read,
        runs: &mut Runs,
    ) -> Result<(), StoreError> {
        let chunk_bytes = BLOCK << runs.chunk_bits;
        let mut buffer = vec![0; usize::try_from(chunk_bytes.min(size)).unwrap_or(usize::MAX)];
        let chunks = size.div_ceil(chunk_bytes);
        let mut chunk = 0;
        while chunk < chunks {
            let at = chunk.saturating_mul(chunk_bytes);
            // Straight to the chunk where the next data lies.
            let next_data = extents.next_offset().map_or(chunks, |offset| offset / chunk_bytes);
            if next_data > chunk {
                runs.zeros = runs.zeros.saturating_add(next_data.min(chunks).saturating_sub(chunk));
                chunk = next_data.min(chunks);
                continue;
            }
            let length =
                usize::try_from(size.saturating_sub(at).min(chunk_bytes)).unwrap_or(usize::MAX);
            let bytes = buffer.get_mut(..length).unwrap_or_default();
            extents.fill(at, bytes, source).map_err(StoreError::Source)?;
            if is_zero(bytes) {
                runs.zeros = runs.zeros.saturating_add(1);
            } else {
                self.flush_zeros(runs)?;
                let block = self.append(bytes)?;
                runs.push(1, block);
            }
            chunk = chunk.saturating_add(1);
        }
        self.flush_zeros(runs)
    }

    /// Decides on the zeros before the next data: a hole if it is worth a map, blocks otherwise.
    fn flush_zeros(&mut self, runs: &mut Runs) -> Result<(), StoreError> {
        let chunk_bytes = BLOCK << runs.chunk_bits;
        let zeros = std::mem::take(&mut runs.zeros);
        if zeros.saturating_mul(chunk_bytes) >= MIN_HOLE {
            runs.next_chunk = runs.next_chunk.saturating_add(zeros);
            return Ok(());
        }
        for _ in 0..zeros {
            // Never more than MIN_HOLE in all.
            let block = self.append(&vec![0; usize::try_from(chunk_bytes).unwrap_or(0)])?;
            runs.push(1, block);
        }
        Ok(())
    }

    /// Appends `bytes`, padded to whole blocks, and returns the first block.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u32, StoreError> {
        let first = self.next;
        let too_large = || StoreError::ImageTooLarge { limit: self.limit_bytes };
        let blocks = (bytes.len() as u64).div_ceil(BLOCK);
        let end = u64::from(first).saturating_add(blocks);
        if end.saturating_mul(BLOCK) > self.limit_bytes {
            return Err(too_large());
        }
        // The last address means a hole.
        let next =
            u32::try_from(end).ok().filter(|next| *next < NULL_BLOCK).ok_or_else(too_large)?;
        let padding = (bytes.len() as u64).wrapping_neg() % BLOCK;
        self.out
            .write_all(bytes)
            .and_then(|()| {
                self.out.write_all(
                    ZEROS.get(..usize::try_from(padding).unwrap_or(0)).unwrap_or_default(),
                )
            })
            .map_err(StoreError::Image)?;
        self.next = next;
        Ok(first)
    }

    /// Gives the file back, everything written, and the number of blocks so far.
    pub(super) fn finish(self) -> Result<(File, u32), StoreError> {
        let file = self.out.into_inner().map_err(|error| StoreError::Image(error.into_error()))?;
        Ok((file, self.next))
    }
}

/// Collects runs while chunks are stored.
struct Runs {
    done: Vec<Run>,
    chunk_bits: u8,
    /// Chunks of zeros seen since the last data, not yet decided on.
    zeros: u64,
    next_chunk: u64,
}

impl Runs {
    fn push(&mut self, chunks: u64, block: u32) {
        let chunk = self.next_chunk;
        self.next_chunk = chunk.saturating_add(chunks);
        if let Some(last) = self.done.last_mut()
            && last.chunk.saturating_add(last.chunks) == chunk
            && u64::from(last.block).saturating_add(last.chunks << self.chunk_bits)
                == u64::from(block)
        {
            last.chunks = last.chunks.saturating_add(chunks);
            return;
        }
        self.done.push(Run { chunk, chunks, block });
    }
}

/// A cursor over extents that are read front to back.
struct Extents<'a> {
    rest: &'a [(u64, u64)],
    /// How much of the first one is read.
    used: u64,
}

impl<'a> Extents<'a> {
    fn new(extents: &'a [(u64, u64)]) -> Self {
        Self { rest: extents, used: 0 }
    }

    /// Where the next unread byte of data lies.
    fn next_offset(&self) -> Option<u64> {
        self.rest.first().map(|(offset, _)| offset.saturating_add(self.used))
    }

    /// Fills `bytes`, which begin at `at`, with data and zeros.
    fn fill(&mut self, at: u64, bytes: &mut [u8], source: &mut dyn Read) -> io::Result<()> {
        bytes.fill(0);
        let end = at.saturating_add(bytes.len() as u64);
        while let Some((offset, length)) = self.rest.first().copied() {
            let from = offset.saturating_add(self.used);
            if from >= end {
                break;
            }
            let to = offset.saturating_add(length).min(end);
            let range = |byte: u64| usize::try_from(byte.saturating_sub(at)).unwrap_or(usize::MAX);
            source.read_exact(bytes.get_mut(range(from)..range(to)).unwrap_or_default())?;
            self.used = to.saturating_sub(offset);
            if self.used == length {
                self.rest = self.rest.get(1..).unwrap_or_default();
                self.used = 0;
            }
        }
        Ok(())
    }
}

/// Chunks grow with the file, so that no map is larger than 4 MiB (up to 64 TiB).
fn chunk_bits(size: u64) -> u8 {
    let blocks = size.div_ceil(BLOCK);
    let bits = (0..=MAX_CHUNK_BITS).find(|bits| blocks.div_ceil(1 << bits) <= MAX_MAP);
    bits.unwrap_or(MAX_CHUNK_BITS)
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<32>();
    words.iter().all(|word| *word == [0; 32]) && rest.iter().all(|byte| *byte == 0)
}

/// Files up to this length are kept behind their inode: two of them still share a block.
const INLINE_FILE: usize = 2048;
/// Bound on what is held in memory for that; later small files get blocks of their own.
const INLINE_TOTAL: usize = 128 << 20;
/// Shorter runs of zeros are stored, because a file in one piece is cheaper to read than a map.
const MIN_HOLE: u64 = 64 << 10;
const MAX_MAP: u64 = 1 << 20;
const MAX_CHUNK_BITS: u8 = 14;
const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

#[cfg(test)]
mod tests;
