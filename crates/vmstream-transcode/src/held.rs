//! A machine's state as a stream of ours, in memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::error::Error;
use crate::to::{Options, file_to_vmstream};

/// Bytes that are held at most: ten times a usual machine's.
const MOST: usize = 4 << 20;
/// Bytes that count as handed over though nobody asked for it, as [`Stream`](crate::Stream)'s pieces are.
const PIECE: usize = 256 << 10;

/// What a file of QEMU's became, and what is wrong with it behind that.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: io::Cursor<Vec<u8>>,
    failed: Option<Error>,
}

impl Held {
    /// Without its pages, a stream is so short that a thread which reads its beginning while another writes its end costs
    /// more than it saves. Nothing for one that is too long to be held.
    pub(crate) fn new(file: &Arc<File>, options: &Options) -> Option<Self> {
        let mut out = Out { bytes: Vec::with_capacity(PIECE), handed_over: 0, is_over: false };
        let failed = file_to_vmstream(file, &mut out, options).err();
        if out.is_over {
            return None;
        }
        if failed.is_some() {
            out.bytes.truncate(out.handed_over);
        }
        Some(Self { bytes: io::Cursor::new(out.bytes), failed })
    }
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.bytes.read(buffer)? {
            0 if !buffer.is_empty() => {
                self.failed.take().map_or(Ok(0), |it| Err(io::Error::other(it)))
            }
            got => Ok(got),
        }
    }
}

struct Out {
    bytes: Vec<u8>,
    handed_over: usize,
    is_over: bool,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > MOST {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len().saturating_sub(self.handed_over) >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.handed_over = self.bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_handed_over_before_a_failure_is_not_read() {
        let mut out = Out { bytes: Vec::new(), handed_over: 0, is_over: false };
        out.write_all(b"whole").and_then(|()| out.flush()).expect("it fits");
        out.write_all(b"half").expect("it fits");

        assert_eq!(out.handed_over, 5);
        out.write_all(&[0; PIECE]).expect("it fits");
        assert_eq!(out.handed_over, 9 + PIECE);
        out.write_all(&[0; MOST]).expect_err("it is too long");
        assert!(out.is_over);
    }
}
