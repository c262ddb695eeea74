//! A zstd stream of any number of frames, checksums verified; the decoder that we have reads one frame.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Decompresses `input` as it is read.
pub(super) struct ZstdReader<R> {
    input: R,
    decoder: Box<FrameDecoder>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BetweenFrames,
    WithinFrame,
}

impl<R: BufRead> ZstdReader<R> {
    /// Reads nothing yet.
    pub(super) fn new(input: R) -> Self {
        Self { input, decoder: Box::new(FrameDecoder::new()), place: Place::BetweenFrames }
    }

    /// Starts the next frame, or passes over one that holds no data. `false` at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.decoder.init(&mut self.input) {
            Ok(()) => self.place = Place::WithinFrame,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let skipped =
                    io::copy(&mut self.input.by_ref().take(length.into()), &mut io::sink())?;
                if skipped != u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(invalid(&error)),
        }
        Ok(true)
    }

    fn finish_frame(&mut self) -> io::Result<()> {
        self.place = Place::BetweenFrames;
        match self.decoder.get_checksum_from_data() {
            Some(want) if self.decoder.get_calculated_checksum() != Some(want) => {
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "zstd frame does not match its checksum",
                ))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.place == Place::BetweenFrames {
                if buffer.is_empty() || !self.next_frame()? {
                    return Ok(0);
                }
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| invalid(&error))?;
            }
            let got = self.decoder.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            self.finish_frame()?;
        }
    }
}

fn invalid(error: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
