//! Guest to host, into a stream.

use std::io::{self, Read as _, Write};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    Done, Entry, EntryKind, Get, InvalidEntry, Reply, Request, Status, Trailer, Transfer,
};
use xxhash_rust::xxh64::Xxh64;

use super::talk::{self, Frames, TalkError};
use crate::channel::Channel;

/// Bytes per read and write.
const PIECE: usize = 128 * 1024;

/// Why a file did not get out of the guest whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream does not take it.
    #[error("cannot write the bytes that came")]
    Write(#[source] io::Error),
    /// The agent failed, or the connection did.
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// The agent announced something impossible.
    #[error(transparent)]
    Entry(#[from] InvalidEntry),
    /// It is no file.
    #[error("{path} is not a file")]
    NotAFile {
        /// What was asked for.
        path: ByteString,
    },
    /// What arrived is not what the guest read. It has been passed on.
    #[error("Checksum mismatch: expected {expected:016x} got {got:016x}")]
    Checksum {
        /// The guest's xxh64.
        expected: u64,
        /// That of what arrived.
        got: u64,
    },
}

/// Copies a file out of the guest into a stream; returns its length in bytes, holes included, which
/// are written as zeros. `progress` is told how many bytes came since the call before. Uses the
/// channel up.
///
/// # Errors
///
/// [`StreamError`]; what has been written then is not the whole file.
pub fn get_stream(
    channel: &Channel,
    path: ByteString,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, StreamError> {
    let get = Get { path: path.clone(), tree: false, wait_go: false };
    let mut frames = talk::begin(channel, &Request::Get(get))?;
    let Reply::Entry(entry) = talk::hear(&mut frames)? else {
        return Err(TalkError::OutOfPlace { wanted: "Entry" }.into());
    };
    entry.check()?;
    if entry.kind != EntryKind::File {
        return Err(StreamError::NotAFile { path });
    }
    let got = copy(&mut frames, &entry, out, progress)?;
    let mut trailer = [0; Trailer::LEN];
    frames.raw().read_exact(&mut trailer).map_err(TalkError::from)?;
    let Trailer { status, xxh64: expected } = Trailer::from_bytes(trailer);
    if status == Status::Complete && expected != got {
        return Err(StreamError::Checksum { expected, got });
    }
    let (Reply::Done(_), Status::Complete) = (talk::hear(&mut frames)?, status) else {
        return Err(TalkError::OutOfPlace { wanted: "Done" }.into());
    };
    out.flush().map_err(StreamError::Write)?;
    let done = Done { files: 1, bytes: entry.data_len(), ..Done::default() };
    let mut answer = Vec::new();
    Transfer::Done(done).encode(&mut answer).map_err(TalkError::from)?;
    // All of it has been written; whether the agent hears of it changes nothing.
    (&*channel).write_all(&answer).ok();
    Ok(entry.size)
}

/// Copies the announced data; returns its hash.
fn copy(
    frames: &mut Frames<'_>,
    entry: &Entry,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, StreamError> {
    let mut buffer = vec![0; PIECE];
    let mut hash = Xxh64::new(0);
    let mut at = 0_u64;
    for segment in &entry.segments {
        zeros(out, segment.offset.saturating_sub(at))?;
        let mut left = segment.len;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let space = buffer.get_mut(..want).unwrap_or_default();
            let count = frames.raw().read(space).map_err(TalkError::from)?;
            if count == 0 {
                return Err(TalkError::Closed.into());
            }
            let data = space.get(..count).unwrap_or_default();
            out.write_all(data).map_err(StreamError::Write)?;
            hash.update(data);
            let moved = u64::try_from(count).unwrap_or(u64::MAX);
            progress(moved);
            left = left.saturating_sub(moved);
        }
        at = segment.offset.saturating_add(segment.len);
    }
    zeros(out, entry.size.saturating_sub(at))?;
    Ok(hash.digest())
}

fn zeros(out: &mut dyn Write, mut count: u64) -> Result<(), StreamError> {
    let block = [0; 4096];
    while count > 0 {
        let length = usize::try_from(count).unwrap_or(usize::MAX).min(block.len());
        out.write_all(block.get(..length).unwrap_or_default()).map_err(StreamError::Write)?;
        count = count.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
    }
    Ok(())
}
