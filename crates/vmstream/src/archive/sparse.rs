//! Files without their zeros.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use crate::piece::is_zero;

/// The unit in which holes are made, bytes.
const BLOCK: usize = 4096;

/// A new file in which blocks of zeros become holes.
///
/// To be written from its beginning; [`Sparse::finish`] gives it its length.
#[derive(Debug)]
pub struct Sparse {
    file: File,
    /// Offset of the next byte.
    at: u64,
    /// Zeros that have been written and are not in the file yet.
    hole: u64,
}

impl Sparse {
    /// Writes to an empty file.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self { file, at: 0, hole: 0 }
    }

    /// Gives the file its length, and hands it out.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn finish(mut self) -> io::Result<File> {
        self.file.flush()?;
        self.file.set_len(self.at)?;
        Ok(self.file)
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let phase = usize::try_from(self.at % 4096).unwrap_or(0);
        let block = bytes.get(..bytes.len().min(BLOCK - phase)).unwrap_or_default();
        let taken = if is_zero(block) {
            self.hole = self.hole.saturating_add(u64::try_from(block.len()).unwrap_or(0));
            block.len()
        } else {
            if self.hole > 0 {
                self.file.seek(SeekFrom::Start(self.at))?;
                self.hole = 0;
            }
            // As much as has no whole block of zeros, so that files are written in long pieces.
            let zeros = bytes.get(block.len()..).unwrap_or_default();
            let more = zeros.chunks(BLOCK).take_while(|next| !is_zero(next));
            let length = more.fold(block.len(), |sum, next| sum + next.len());
            self.file.write(bytes.get(..length).unwrap_or_default())?
        };
        self.at = self.at.saturating_add(u64::try_from(taken).unwrap_or(0));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
