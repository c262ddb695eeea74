//! Host to guest.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use bandsox_proto::v1::{CHUNK, Message, encode_chunk};
use md5::{Digest as _, Md5};

use super::{TalkError, V1, hex};
use crate::packet::readable;

/// How many chunks may be on the way without an ack: enough to keep both sides busy, little enough
/// that the acks always fit into the channel.
const WINDOW: usize = 8;

/// Why a file could not be uploaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The local file could not be read.
    #[error("cannot read the local file")]
    Read(#[source] io::Error),
    /// The local file got shorter while it was read.
    #[error("the local file changed while it was read: {read} of {size} bytes")]
    Changed {
        /// Bytes there were.
        read: u64,
        /// Bytes there should have been.
        size: u64,
    },
    /// The agent failed, or the connection did.
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// What the guest got is not what was sent.
    #[error("Checksum mismatch: expected {expected} got {got}")]
    Checksum {
        /// MD5 of what was sent.
        expected: String,
        /// MD5 that the guest has.
        got: String,
    },
}

impl V1<'_> {
    /// Copies `file`, from its start, to `path` in the guest; returns its length in bytes.
    /// `progress` is told how many bytes the guest has confirmed.
    ///
    /// # Errors
    ///
    /// [`UploadError`]; the guest's file is then as it was.
    pub fn upload(
        &mut self,
        mut file: &File,
        path: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, UploadError> {
        let (size, checksum) = digest(file).map_err(UploadError::Read)?;
        file.rewind().map_err(UploadError::Read)?;
        self.say(&Message::Upload { path: path.into(), size, checksum: (&*checksum).into() })?;
        if !matches!(self.hear()?, Message::Ready { .. }) {
            return Err(TalkError::OutOfPlace { wanted: "ready" }.into());
        }
        self.send_chunks(file, size, progress)?;
        self.say(&Message::Verify)?;
        let Message::Complete { checksum: got, .. } = self.hear()? else {
            return Err(TalkError::OutOfPlace { wanted: "complete" }.into());
        };
        if !got.is_empty() && *got != checksum {
            let got = got.chars().take(64).collect();
            return Err(UploadError::Checksum { expected: checksum, got });
        }
        Ok(size)
    }

    fn send_chunks(
        &mut self,
        mut file: &File,
        size: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), UploadError> {
        let mut raw = vec![0; CHUNK];
        let mut line = String::with_capacity(CHUNK.saturating_mul(3) / 2);
        let (mut sent, mut confirmed, mut waiting) = (0_u64, 0_u64, 0_usize);
        while sent < size || waiting > 0 {
            // An agent that has failed says so at once, and may read no further.
            while waiting >= WINDOW || waiting > 0 && (sent == size || self.has_answer()?) {
                confirmed = self.ack(confirmed, sent)?;
                waiting = waiting.saturating_sub(1);
                progress(confirmed);
            }
            if sent == size {
                continue;
            }
            let left = usize::try_from(size.saturating_sub(sent)).unwrap_or(usize::MAX);
            let space = raw.get_mut(..CHUNK.min(left)).unwrap_or_default();
            file.read_exact(space).map_err(|error| {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    UploadError::Changed { read: sent, size }
                } else {
                    UploadError::Read(error)
                }
            })?;
            line.clear();
            encode_chunk(space, sent, &mut line);
            let mut unsent = line.as_bytes();
            while !unsent.is_empty() {
                let written = self.channel.write_while_unanswered(unsent);
                unsent = unsent.get(written.map_err(TalkError::Channel)?..).unwrap_or_default();
                if !unsent.is_empty() {
                    confirmed = self.ack(confirmed, sent)?;
                    waiting = waiting.saturating_sub(1);
                }
            }
            sent = sent.saturating_add(u64::try_from(space.len()).unwrap_or(u64::MAX));
            waiting = waiting.saturating_add(1);
        }
        Ok(())
    }

    fn has_answer(&self) -> Result<bool, TalkError> {
        readable(self.channel.as_fd(), Duration::ZERO).map_err(TalkError::Channel)
    }

    fn ack(&mut self, confirmed: u64, sent: u64) -> Result<u64, TalkError> {
        if let Message::Ack { bytes } = self.hear()?
            && bytes > confirmed
            && bytes <= sent
        {
            return Ok(bytes);
        }
        Err(TalkError::OutOfPlace { wanted: "ack" })
    }
}

/// Length and MD5 of a whole file.
fn digest(mut file: &File) -> io::Result<(u64, String)> {
    file.rewind()?;
    let mut digest = Md5::new();
    let mut buffer = vec![0; 4 * CHUNK];
    let mut size = 0_u64;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok((size, hex(&digest.finalize()))),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(buffer.get(..count).unwrap_or_default());
        size = size.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
}
