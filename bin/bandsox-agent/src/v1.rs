//! Protocol v1, the guide's, at the guest's end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bandsox_files::{
    Action, FileError, Incoming, Metadata, Parents, ReceiveError, SendError, Source, Target,
};
use bandsox_proto::chain;
use bandsox_proto::v1::{
    CHUNK, LineError, LineReader, Malformed, Message, decode_data, encode_chunk, encode_message,
};
use md5::{Digest, Md5};

use crate::agent::Agent;
use crate::channel::Connection;

/// v1 carries no mode.
const MODE: u32 = 0o644;

/// Does what a client asks, until it goes.
pub(crate) fn serve(_agent: &Arc<Agent>, connection: Connection) {
    let stream = Arc::clone(&connection.stream);
    let mut client =
        Client { failed: false, lines: LineReader::new(connection), stream, raw: Vec::new() };
    while let ControlFlow::Continue(()) = client.serve_one() {}
}

struct Client {
    /// An upload failed; what the client had sent of it before it knew is no error of its own.
    failed: bool,
    lines: LineReader<Connection>,
    stream: Arc<File>,
    raw: Vec<u8>,
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
enum TransferError {
    /// The channel is of no more use.
    #[error("cannot read from the channel")]
    Channel(#[from] LineError),
    /// The channel is of no more use.
    #[error("cannot write to the channel")]
    Write(#[source] io::Error),
    /// A line that makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A line that makes no sense at this place.
    #[error("expected {wanted}")]
    OutOfPlace {
        /// What would have made sense.
        wanted: &'static str,
    },
    /// A chunk that does not continue the file.
    #[error("chunk is at offset {offset}, expected {expected}")]
    Offset {
        /// What it says.
        offset: u64,
        /// Where the file ends so far.
        expected: u64,
    },
    /// More or fewer bytes than announced.
    #[error("received {got} bytes, expected {size}")]
    Size {
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        size: u64,
    },
    /// The bytes are not those whose checksum was announced.
    #[error("Checksum mismatch: expected {expected} got {got}")]
    Checksum {
        /// What was announced.
        expected: String,
        /// What came.
        got: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Target(#[from] ReceiveError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be read.
    #[error(transparent)]
    Source(#[from] SendError),
}

impl Client {
    fn serve_one(&mut self) -> ControlFlow<()> {
        let result = match self.lines.read() {
            Ok(None) => return ControlFlow::Break(()),
            Ok(Some(line)) => match Message::parse(line) {
                Ok(Message::Upload { path, size, checksum }) => {
                    let (path, checksum) = (path.into_owned(), checksum.into_owned());
                    self.failed = false;
                    self.upload(&path, size, &checksum)
                }
                Ok(Message::Download { path }) => {
                    let path = path.into_owned();
                    self.failed = false;
                    self.download(&path)
                }
                Ok(Message::Chunk { .. } | Message::Verify) if self.failed => Ok(()),
                Ok(Message::Error { .. }) => Ok(()),
                Ok(
                    Message::Ready { .. }
                    | Message::Chunk { .. }
                    | Message::Ack { .. }
                    | Message::Verify
                    | Message::Complete { .. },
                ) => Err(TransferError::OutOfPlace { wanted: "upload or download" }),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        };
        let Err(error) = result else {
            return ControlFlow::Continue(());
        };
        self.failed = true;
        let lost = matches!(error, TransferError::Channel(_) | TransferError::Write(_));
        let told = self.say(&Message::Error { error: chain(&error).into() });
        if lost || told.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn upload(&mut self, path: &str, size: u64, checksum: &str) -> Result<(), TransferError> {
        let target = Target::resolve(Path::new(path), None, Parents::Require)?;
        let incoming = Incoming::create(&target)?;
        self.say(&Message::Ready { path: path.into() })?;
        let digest = self.take_chunks(&incoming, size)?;
        if digest != checksum.to_ascii_lowercase() {
            return Err(TransferError::Checksum { expected: checksum.to_owned(), got: digest });
        }
        let mode = target.mode().unwrap_or(MODE);
        incoming.commit(Metadata { mode, mtime_ns: None, uid: None, gid: None })?;
        self.say(&Message::Complete { size, checksum: digest.into() })
    }

    /// Takes chunks until the client says verify; returns the MD5 of what came.
    fn take_chunks(&mut self, incoming: &Incoming<'_>, size: u64) -> Result<String, TransferError> {
        let mut md5 = Md5::new();
        let mut got = 0_u64;
        let mut answer = String::new();
        loop {
            let line = self.lines.read()?.ok_or(LineError::Truncated)?;
            match Message::parse(line)? {
                Message::Chunk { data, size: len, offset } => {
                    if offset != got {
                        return Err(TransferError::Offset { offset, expected: got });
                    }
                    decode_data(&data, len, &mut self.raw)?;
                    got = got.saturating_add(len);
                    if got > size {
                        return Err(TransferError::Size { got, size });
                    }
                    incoming.write_at(&self.raw, offset)?;
                    answer.clear();
                    encode_message(&Message::Ack { bytes: got }, &mut answer);
                    // Before hashing, so that the client can go on meanwhile.
                    (&*self.stream).write_all(answer.as_bytes()).map_err(TransferError::Write)?;
                    md5.update(&self.raw);
                }
                Message::Verify if got == size => return Ok(hex(&md5.finalize())),
                Message::Verify => return Err(TransferError::Size { got, size }),
                Message::Upload { .. }
                | Message::Download { .. }
                | Message::Ready { .. }
                | Message::Ack { .. }
                | Message::Complete { .. }
                | Message::Error { .. } => {
                    return Err(TransferError::OutOfPlace { wanted: "chunk or verify" });
                }
            }
        }
    }

    fn download(&mut self, path: &str) -> Result<(), TransferError> {
        let (mut file, path) = Source::open(Path::new(path))?.into_std()?;
        let mut md5 = Md5::new();
        let mut line = String::new();
        let mut raw = vec![0; CHUNK];
        let mut offset = 0_u64;
        loop {
            let count = fill(&mut file, &mut raw).map_err(|source| {
                let (action, path) = (Action::Read, path.clone());
                FileError { action, path, source }
            })?;
            let data = raw.get(..count).unwrap_or_default();
            if data.is_empty() {
                break;
            }
            line.clear();
            encode_chunk(data, offset, &mut line);
            (&*self.stream).write_all(line.as_bytes()).map_err(TransferError::Write)?;
            md5.update(data);
            offset = offset.saturating_add(count as u64);
        }
        self.say(&Message::Complete { size: offset, checksum: hex(&md5.finalize()).into() })
    }

    fn say(&self, message: &Message<'_>) -> Result<(), TransferError> {
        let mut line = String::new();
        encode_message(message, &mut line);
        (&*self.stream).write_all(line.as_bytes()).map_err(TransferError::Write)
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
