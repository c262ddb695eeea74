//! One regular file between a client's open descriptor and the guest, in protocol v2.
//!
//! ```text
//!  put:  Put ─▶   ◀─ Ready   Entry, data, trailer, Done ─▶   ◀─ Done
//!  get:  Get ─▶   ◀─ Entry   Go ─▶   ◀─ data, trailer, Done
//! ```
//!
//! Over vsock the device moves the data between the file and guest memory; this module sees the frames around it. `Go`
//! is what makes that safe: no byte of the data can be on its way before the device knows where it belongs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    DecodeError, Done, Entry, EntryKind, Fault, FrameReader, Get, InvalidEntry, Put, ReadError,
    Reply, Request, Segment, Status, Trailer, preamble,
};
use xxhash_rust::xxh64::Xxh64;

use crate::links::Channel;

/// What a file is in the guest, besides its bytes.
#[derive(Clone, Debug)]
pub(crate) struct FileFacts {
    /// Length in bytes.
    pub(crate) size: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
    /// Owner, if not root.
    pub(crate) uid: Option<u32>,
    /// Group, if not root.
    pub(crate) gid: Option<u32>,
}

/// Why a file did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// The agent said no.
    #[error(transparent)]
    Refused(#[from] Fault),
    /// The agent speaks something else.
    #[error("the agent does not speak protocol v2")]
    Preamble(#[from] preamble::PreambleError),
    /// A frame did not come.
    #[error("the agent's answer could not be read")]
    Read(#[from] ReadError),
    /// A frame came and makes no sense.
    #[error("the agent's answer makes no sense")]
    Decode(#[from] DecodeError),
    /// The agent answered something that does not belong here.
    #[error("the agent answered {got} where {wanted} was expected")]
    Unexpected {
        /// What it sent.
        got: &'static str,
        /// What belongs there.
        wanted: &'static str,
    },
    /// The agent describes an impossible file.
    #[error("the agent describes a file that cannot be")]
    Entry(#[from] InvalidEntry),
    /// The channel closed.
    #[error("the connection to the guest ended in the middle of the transfer")]
    Ended,
    /// The channel or the file failed.
    #[error("moving the data failed")]
    Io(#[from] io::Error),
    /// What arrived is not what was sent.
    #[error("Checksum mismatch: expected {expected:016x} got {got:016x}")]
    Checksum {
        /// What the sender computed.
        expected: u64,
        /// What arrived here.
        got: u64,
    },
}

/// Sends `file`, from its start, to `path` in the guest; returns where it is now, and the xxh64 of its data.
pub(crate) fn put(
    mut channel: Channel,
    file: &File,
    path: ByteString,
    name: Option<ByteString>,
    facts: &FileFacts,
    progress: &AtomicU64,
) -> Result<(ByteString, u64), TransferError> {
    let mut frames = FrameReader::new(channel.socket().try_clone()?);
    let put = Request::Put(Put { path, tree: false, name, parents: false });
    start(&mut channel, &put)?;
    preamble::receive_agent(frames.raw())?;
    let answer = next(&mut frames)?;
    let Reply::Ready(ready) = answer else {
        return Err(unexpected(&answer, "Ready"));
    };

    let segments = bandsox_files::data_segments(file, facts.size)?;
    let entry = Entry {
        path: ByteString::default(),
        kind: EntryKind::File,
        mode: facts.mode,
        uid: facts.uid,
        gid: facts.gid,
        mtime_ns: facts.mtime_ns,
        size: facts.size,
        target: None,
        segments,
    };
    let sent = send_data(&mut channel, file, entry, progress);
    let hash = match sent {
        Ok(hash) => hash,
        // The agent closes early when it cannot go on, and says why before it does.
        Err(error) => return Err(said_before_closing(&mut frames).unwrap_or(error)),
    };
    let done = next(&mut frames)?;
    if !matches!(done, Reply::Done(_)) {
        return Err(unexpected(&done, "Done"));
    }
    Ok((ready.path, hash))
}

fn send_data(
    channel: &mut Channel,
    file: &File,
    entry: Entry,
    progress: &AtomicU64,
) -> Result<u64, TransferError> {
    let segments = entry.segments.clone();
    let bytes = entry.data_len();
    channel.socket().write_all(&Request::Entry(entry).to_frame()?)?;
    let xxh64 = channel.send_file(file, &segments, progress)?;
    let mut tail = Trailer { status: Status::Complete, xxh64 }.to_bytes().to_vec();
    Request::Done(Done { files: 1, bytes, ..Done::default() }).encode(&mut tail)?;
    channel.socket().write_all(&tail)?;
    Ok(xxh64)
}

/// Fetches the regular file `path` of the guest into `file`, which is empty; returns what it is and its xxh64.
pub(crate) fn get(
    mut channel: Channel,
    file: &File,
    path: ByteString,
    progress: &AtomicU64,
) -> Result<(FileFacts, u64), TransferError> {
    let mut frames = FrameReader::new(channel.socket().try_clone()?);
    start(&mut channel, &Request::Get(Get { path, tree: false, wait_go: true }))?;
    preamble::receive_agent(frames.raw())?;
    let announced = next(&mut frames)?;
    let Reply::Entry(entry) = announced else {
        return Err(unexpected(&announced, "Entry"));
    };
    entry.check()?;
    if entry.kind != EntryKind::File {
        return Err(TransferError::Unexpected {
            got: "something that is no file",
            wanted: "a file",
        });
    }

    let go = Request::Go.to_frame()?;
    let got = channel.receive_file(&go, file, &entry.segments, progress)?;
    let mut trailer = [0; Trailer::LEN];
    frames.raw().read_exact(&mut trailer).map_err(ended)?;
    let trailer = Trailer::from_bytes(trailer);
    if trailer.status == Status::SourceFailed {
        return Err(said_before_closing(&mut frames).unwrap_or(TransferError::Ended));
    }
    if trailer.xxh64 != got {
        return Err(TransferError::Checksum { expected: trailer.xxh64, got });
    }
    file.set_len(entry.size)?;
    let Entry { mode, mtime_ns, size, uid, gid, path: _, kind: _, target: _, segments: _ } = entry;
    Ok((FileFacts { size, mode: mode & 0o7777, mtime_ns, uid, gid }, got))
}

fn start(channel: &mut Channel, request: &Request) -> Result<(), TransferError> {
    let mut opening = preamble::CLIENT.to_vec();
    request.encode(&mut opening)?;
    channel.socket().write_all(&opening)?;
    Ok(())
}

fn next(frames: &mut FrameReader<UnixStream>) -> Result<Reply, TransferError> {
    let frame = frames.read()?.ok_or(TransferError::Ended)?;
    let reply = Reply::decode(frame.kind, frame.payload)?;
    if let Reply::Error(fault) = reply {
        return Err(TransferError::Refused(fault));
    }
    Ok(reply)
}

/// The error that the agent sent before it closed, if it did.
fn said_before_closing(frames: &mut FrameReader<UnixStream>) -> Option<TransferError> {
    next(frames).err().filter(|error| matches!(error, TransferError::Refused(_)))
}

fn unexpected(got: &Reply, wanted: &'static str) -> TransferError {
    TransferError::Unexpected { got: got.kind().name(), wanted }
}

fn ended(error: io::Error) -> TransferError {
    if error.kind() == io::ErrorKind::UnexpectedEof { TransferError::Ended } else { error.into() }
}

/// Copies through the socket: what a channel without a device of ours does.
pub(crate) fn copy_out(
    socket: &mut &UnixStream,
    file: &File,
    segment: Segment,
    hash: &mut Xxh64,
    progress: &AtomicU64,
) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0_u8; COPY];
    let Segment { mut offset, mut len } = segment;
    while len > 0 {
        let want = usize::try_from(len).map_or(COPY, |len| len.min(COPY));
        let got = file.read_at(buffer.get_mut(..want).unwrap_or_default(), offset)?;
        let Some(bytes) = buffer.get(..got).filter(|bytes| !bytes.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        hash.update(bytes);
        socket.write_all(bytes)?;
        let moved = u64::try_from(got).unwrap_or(u64::MAX);
        (offset, len) = (offset.saturating_add(moved), len.saturating_sub(moved));
        progress.fetch_add(moved, Ordering::Relaxed);
    }
    Ok(())
}

/// The other way round.
pub(crate) fn copy_in(
    socket: &mut &UnixStream,
    file: &File,
    segment: Segment,
    hash: &mut Xxh64,
    progress: &AtomicU64,
) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0_u8; COPY];
    let Segment { mut offset, mut len } = segment;
    while len > 0 {
        let want = usize::try_from(len).map_or(COPY, |len| len.min(COPY));
        let got = socket.read(buffer.get_mut(..want).unwrap_or_default())?;
        let Some(bytes) = buffer.get(..got).filter(|bytes| !bytes.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        hash.update(bytes);
        file.write_all_at(bytes, offset)?;
        let moved = u64::try_from(got).unwrap_or(u64::MAX);
        (offset, len) = (offset.saturating_add(moved), len.saturating_sub(moved));
        progress.fetch_add(moved, Ordering::Relaxed);
    }
    Ok(())
}

/// Bytes per copy on a channel that has to be copied.
const COPY: usize = 64 * 1024;
