//! Guest to host.

use std::fs::File;
use std::io::{self, Write as _};

use bandsox_proto::v1::{CHUNK, Message, decode_data};
use md5::{Digest as _, Md5};

use super::{TalkError, V1, hex};

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The bytes could not be written.
    #[error("cannot write the bytes that came")]
    Write(#[source] io::Error),
    /// The agent failed, or the connection did.
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// A chunk that does not follow the one before.
    #[error("the agent sent bytes from {found} on; {expected} are next")]
    Gap {
        /// Offset that should have come.
        expected: u64,
        /// Offset that came.
        found: u64,
    },
    /// The number of bytes is not the one that the guest says.
    #[error("the agent sent {got} bytes and says that they are {said}")]
    Size {
        /// Bytes that came.
        got: u64,
        /// Bytes that should have.
        said: u64,
    },
    /// What arrived is not what the guest sent.
    #[error("Checksum mismatch: expected {expected} got {got}")]
    Checksum {
        /// MD5 that the guest has.
        expected: String,
        /// MD5 of what arrived.
        got: String,
    },
}

impl V1<'_> {
    /// Copies `path` in the guest into `file`, which is empty; returns its length in bytes.
    /// `progress` is told how many bytes have come.
    ///
    /// # Errors
    ///
    /// [`DownloadError`]; what `file` holds then is worth nothing.
    pub fn download(
        &mut self,
        path: &str,
        mut file: &File,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, DownloadError> {
        self.say(&Message::Download { path: path.into() })?;
        let mut digest = Md5::new();
        let mut raw = Vec::with_capacity(CHUNK);
        let mut received = 0_u64;
        loop {
            let message = self.hear()?;
            match message {
                Message::Chunk { data, size, offset } => {
                    if offset != received {
                        return Err(DownloadError::Gap { expected: received, found: offset });
                    }
                    decode_data(&data, size, &mut raw).map_err(TalkError::from)?;
                    file.write_all(&raw).map_err(DownloadError::Write)?;
                    digest.update(&raw);
                    received = received.saturating_add(size);
                    progress(received);
                }
                Message::Complete { size, checksum } => {
                    if size != received {
                        return Err(DownloadError::Size { got: received, said: size });
                    }
                    let got = hex(&digest.finalize());
                    if !checksum.is_empty() && *checksum != got {
                        let expected = checksum.chars().take(64).collect();
                        return Err(DownloadError::Checksum { expected, got });
                    }
                    return Ok(received);
                }
                Message::Upload { .. }
                | Message::Download { .. }
                | Message::Ready { .. }
                | Message::Ack { .. }
                | Message::Verify
                | Message::Error { .. } => {
                    return Err(TalkError::OutOfPlace { wanted: "chunk or complete" }.into());
                }
            }
        }
    }
}
