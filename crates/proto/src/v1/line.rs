//! Lines of bounded length from a byte stream.

use std::io::{self, Read};

/// Longest line, its newline included, in bytes. A chunk needs some 87,500.
pub const MAX_LINE: usize = 128 * 1024;

/// Why no line could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// [`MAX_LINE`] bytes, and no newline among them.
    #[error("line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// The stream ended within a line.
    #[error("channel ended within a line")]
    Truncated,
    /// The channel failed.
    #[error("channel failed")]
    Io(#[source] io::Error),
}

/// Reads lines, buffering what came with them.
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Start of the line being looked for.
    start: usize,
    /// End of what has arrived; the buffer is longer.
    end: usize,
}

impl<R: Read> LineReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input, buffer: vec![0; MAX_LINE], start: 0, end: 0 }
    }

    /// The next line without its newline; `None` if the stream ended between lines.
    ///
    /// # Errors
    ///
    /// See [`LineError`]. After an error the stream is of no more use.
    pub fn read(&mut self) -> Result<Option<&[u8]>, LineError> {
        let mut searched = 0_usize;
        loop {
            let arrived = self.buffer.get(self.start..self.end).unwrap_or_default();
            let unsearched = arrived.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unsearched) {
                let first = self.start;
                let newline = first.saturating_add(searched).saturating_add(at);
                self.start = newline.saturating_add(1);
                return Ok(self.buffer.get(first..newline));
            }
            searched = arrived.len();
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads more; `false` at the end of the stream.
    fn fill(&mut self) -> Result<bool, LineError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        if free.is_empty() {
            return Err(LineError::TooLong);
        }
        loop {
            match self.input.read(free) {
                Ok(0) if self.end == 0 => return Ok(false),
                Ok(0) => return Err(LineError::Truncated),
                Ok(n) => {
                    self.end = self.end.saturating_add(n).min(self.buffer.len());
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LineError::Io(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_whatever_the_reads() {
        let mut reader = LineReader::new(&b"one\n\ntwo\n"[..]);

        assert_eq!(reader.read().expect("a line"), Some(&b"one"[..]));
        assert_eq!(reader.read().expect("a line"), Some(&b""[..]));
        assert_eq!(reader.read().expect("a line"), Some(&b"two"[..]));
        assert_eq!(reader.read().expect("the end"), None);
    }

    #[test]
    fn a_line_without_end_is_refused_and_not_stored() {
        let mut reader = LineReader::new(io::repeat(b'x'));

        assert!(matches!(reader.read(), Err(LineError::TooLong)));
    }

    #[test]
    fn a_stream_that_ends_within_a_line_is_an_error() {
        let mut reader = LineReader::new(&b"half"[..]);

        assert!(matches!(reader.read(), Err(LineError::Truncated)));
    }
}
