//! Data of pages, from and to their stored form.

use std::borrow::Cow;
use std::io::Read;

use super::{Encoding, Pages};
use crate::broken::Broken;
use crate::rule::Rule;

/// The largest window that a Zstandard frame may ask for, bytes.
const ZSTD_WINDOW: u64 = 8 << 20;

impl Pages {
    /// The data: the pages of all runs of kind data, in order.
    ///
    /// # Errors
    ///
    /// [`Rule::P3`] if what is stored does not decode to exactly the length announced.
    pub fn data(&self) -> Result<Cow<'_, [u8]>, Broken> {
        let stored = self.stored();
        let data = match self.encoding {
            Encoding::Raw => Some(Cow::Borrowed(stored)),
            // A block of LZ4 says nothing about empty output.
            Encoding::Lz4 | Encoding::Zstd if self.length == 0 => {
                stored.is_empty().then_some(Cow::Borrowed(stored))
            }
            Encoding::Lz4 => lz4_flex::block::decompress(stored, self.length).ok().map(Cow::Owned),
            Encoding::Zstd => unzstd(stored, self.length).map(Cow::Owned),
        };
        data.filter(|data| data.len() == self.length)
            .ok_or_else(|| Broken::new(Rule::P3).found(self.encoding.word()))
    }
}

/// Exactly `length` bytes out of exactly one frame.
fn unzstd(stored: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut rest = stored;
    let decoder =
        ruzstd::decoding::StreamingDecoder::new_with_max_window_size(&mut rest, ZSTD_WINDOW);
    let mut data = Vec::with_capacity(length);
    let most = u64::try_from(length).ok()?.checked_add(1)?;
    decoder.ok()?.take(most).read_to_end(&mut data).ok()?;
    rest.is_empty().then_some(data)
}

/// Stores data; as they are if the encoding saves less than a sixteenth.
pub(super) fn store(data: Vec<u8>, encoding: Encoding) -> (Encoding, Vec<u8>) {
    let packed = match encoding {
        Encoding::Raw => None,
        Encoding::Lz4 => Some(lz4_flex::block::compress(&data)),
        Encoding::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            Some(ruzstd::encoding::compress_to_vec(data.as_slice(), level))
        }
    };
    match packed {
        Some(packed) if packed.len() < data.len() - data.len() / 16 => (encoding, packed),
        _ => (Encoding::Raw, data),
    }
}
