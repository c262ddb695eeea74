//! Compressed pages of a multifd channel: one stream of zlib or zstd, flushed at the end of each packet.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::input::len64;

const ZLIB: u32 = 1 << 1;
const ZSTD: u32 = 2 << 1;

/// The window of a frame that is read: zstd's own levels go up to 8 MiB for what is sent page by page.
const WINDOW_BYTES: u64 = 8 << 20;

/// Bytes that zstd takes beside its window: a packet's pages, a block and its tables.
const BESIDE_WINDOW: u64 = 1 << 20;

/// Entries that wait: packets' pages that a window keeps back, and runs of zeros behind them; in a quarter of the room.
const MOST_AWAITED: u64 = 65_536;
const ENTRY_BYTES: u64 = 40;

/// Why a packet is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    Broken,
    /// zstd's window has not as much room.
    Window {
        found: u64,
        most: u64,
    },
}

/// Which page comes out next.
pub(crate) struct Awaited {
    pub(crate) round: u32,
    pub(crate) block: Arc<str>,
    pub(crate) offset: u64,
    /// So many pages of zeros from there on, which came without data; none is a page with data.
    pub(crate) zeros: u64,
}

/// A stream that is inflated as its pieces arrive.
pub(crate) struct Inflate {
    flags: u32,
    page_bytes: usize,
    method: Method,
    out: VecDeque<u8>,
    /// zstd keeps back as much as its window, so pages come later than their packets.
    awaited: VecDeque<Awaited>,
    most_awaited: usize,
}

enum Method {
    Zlib(Box<Decompress>),
    Zstd { decoder: Box<FrameDecoder>, begun: bool },
}

impl Inflate {
    /// Of the method that a packet's flags name, which may take so many bytes.
    pub(crate) fn new(flags: u32, page_bytes: u32, room: u64) -> Option<Self> {
        let method = match flags {
            ZLIB => Method::Zlib(Box::new(Decompress::new(true))),
            ZSTD => {
                let mut decoder = Box::new(FrameDecoder::new());
                decoder.set_max_window_size(WINDOW_BYTES.min(room.saturating_sub(BESIDE_WINDOW)));
                Method::Zstd { decoder, begun: false }
            }
            _ => return None,
        };
        let page_bytes = usize::try_from(page_bytes).ok()?;
        let most_awaited = usize::try_from(MOST_AWAITED.min(room / 4 / ENTRY_BYTES)).ok()?;
        let (out, awaited) = (VecDeque::new(), VecDeque::new());
        Some(Self { flags, page_bytes, method, out, awaited, most_awaited })
    }

    pub(crate) fn flags(&self) -> u32 {
        self.flags
    }

    /// Takes a packet's payload, and which pages are in it.
    pub(crate) fn push(
        &mut self,
        payload: &[u8],
        pages: impl Iterator<Item = Awaited>,
    ) -> Result<(), Refused> {
        let before = self.awaited.len();
        self.awaited.extend(pages);
        // One packet's pages come with it.
        if before > self.most_awaited {
            return Err(Refused::Broken);
        }
        let bound = self.awaited.len().saturating_sub(before).saturating_mul(self.page_bytes);
        match &mut self.method {
            Method::Zlib(zlib) => unzlib(zlib, payload, bound, &mut self.out),
            Method::Zstd { decoder, begun } => {
                unzstd(decoder, begun, payload, bound, &mut self.out)
            }
        }
    }

    /// Takes a page of zeros, which comes when the pages before it have.
    pub(crate) fn zero(
        &mut self,
        round: u32,
        block: &Arc<str>,
        offset: u64,
    ) -> Result<(), Refused> {
        let page_bytes = len64(self.page_bytes);
        if let Some(last) = self.awaited.back_mut()
            && last.zeros > 0
            && (last.round, &last.block) == (round, block)
            && last.zeros.checked_mul(page_bytes).and_then(|more| last.offset.checked_add(more))
                == Some(offset)
        {
            last.zeros = last.zeros.saturating_add(1);
            return Ok(());
        }
        self.awaited.push_back(Awaited { round, block: Arc::clone(block), offset, zeros: 1 });
        if self.awaited.len() > self.most_awaited { Err(Refused::Broken) } else { Ok(()) }
    }

    /// The next page that is complete; one of zeros has no bytes.
    pub(crate) fn page(&mut self) -> Option<(Awaited, Option<Vec<u8>>)> {
        let front = self.awaited.front_mut()?;
        if front.zeros > 1 {
            let Awaited { round, block, offset, .. } = &*front;
            let zero =
                Awaited { round: *round, block: Arc::clone(block), offset: *offset, zeros: 1 };
            front.offset = front.offset.saturating_add(len64(self.page_bytes));
            front.zeros = front.zeros.saturating_sub(1);
            return Some((zero, None));
        }
        if front.zeros == 0 && self.out.len() < self.page_bytes {
            return None;
        }
        let awaited = self.awaited.pop_front()?;
        let data = (awaited.zeros == 0).then(|| self.out.drain(..self.page_bytes).collect());
        Some((awaited, data))
    }

    /// Whether pages were announced that did not come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.awaited.is_empty() || !self.out.is_empty()
    }

    /// Gets out what was kept back.
    pub(crate) fn finish(&mut self) -> Result<(), Refused> {
        /// An empty raw block that is the last of its frame.
        ///
        /// Source: RFC 8878, section 3.1.1.2.
        const LAST_BLOCK: &[u8] = &[1, 0, 0];
        match &mut self.method {
            Method::Zlib(_) | Method::Zstd { decoder: _, begun: false } => Ok(()),
            Method::Zstd { decoder, begun: true } => {
                // A frame whose head announced a checksum would read it here.
                let mut rest = LAST_BLOCK.chain(io::repeat(0).take(4));
                decoder
                    .decode_blocks(&mut rest, BlockDecodingStrategy::All)
                    .map_err(|_| Refused::Broken)?;
                self.out.extend(decoder.collect().unwrap_or_default());
                Ok(())
            }
        }
    }
}

fn unzlib(
    zlib: &mut Decompress,
    payload: &[u8],
    bound: usize,
    out: &mut VecDeque<u8>,
) -> Result<(), Refused> {
    let mut piece = vec![0; 64 * 1024];
    let (mut taken, mut made) = (0usize, 0usize);
    loop {
        let (before_in, before_out) = (zlib.total_in(), zlib.total_out());
        let rest = payload.get(taken..).unwrap_or_default();
        let status = zlib
            .decompress(rest, &mut piece, FlushDecompress::Sync)
            .map_err(|_| Refused::Broken)?;
        let used = usize::try_from(zlib.total_in().saturating_sub(before_in)).unwrap_or(0);
        let new = usize::try_from(zlib.total_out().saturating_sub(before_out)).unwrap_or(0);
        taken = taken.saturating_add(used);
        made = made.saturating_add(new);
        if made > bound {
            return Err(Refused::Broken);
        }
        out.extend(piece.get(..new).unwrap_or_default());
        if (used == 0 && new == 0) || status == Status::StreamEnd {
            break;
        }
    }
    if taken == payload.len() && made == bound { Ok(()) } else { Err(Refused::Broken) }
}

fn unzstd(
    decoder: &mut FrameDecoder,
    begun: &mut bool,
    payload: &[u8],
    bound: usize,
    out: &mut VecDeque<u8>,
) -> Result<(), Refused> {
    let mut rest = payload;
    if !*begun {
        if let Err(error) = decoder.init(&mut rest) {
            let FrameDecoderError::WindowSizeTooBig { requested: found, max: most } = error else {
                return Err(Refused::Broken);
            };
            return Err(Refused::Window { found, most });
        }
        *begun = true;
    }
    // A block is at most 128 KiB, so blocks that yield nothing are what is left to bound.
    let mut blocks = 0usize;
    while !rest.is_empty() {
        decoder
            .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| Refused::Broken)?;
        blocks = blocks.saturating_add(1);
        if blocks > len_bound(bound) {
            return Err(Refused::Broken);
        }
        out.extend(decoder.collect().unwrap_or_default());
    }
    Ok(())
}

/// Blocks of a packet that holds `bytes`; a flush may cut them short.
fn len_bound(bytes: usize) -> usize {
    usize::try_from(len64(bytes) / 1024).unwrap_or(usize::MAX).saturating_add(16)
}
