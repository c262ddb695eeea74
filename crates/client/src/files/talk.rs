//! What every request for files begins with.

use std::io::{BufReader, Write as _};

use bandsox_proto::v2::{DecodeError, Fault, FrameReader, ReadError, Reply, Request, preamble};

use crate::channel::Channel;

/// Bytes read ahead: a tree of small files is many short messages.
const AHEAD: usize = 256 * 1024;

/// The agent's half of a channel.
pub(super) type Frames<'a> = FrameReader<BufReader<&'a Channel>>;

/// Why the two sides cannot talk any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TalkError {
    /// The agent does not start as an agent does.
    #[error(transparent)]
    Preamble(#[from] preamble::PreambleError),
    /// The channel failed.
    #[error("the connection to the agent failed")]
    Channel(#[from] std::io::Error),
    /// The agent's bytes are no message.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The agent's message makes no sense.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A message that does not belong there.
    #[error("the agent sent a message out of place; want {wanted}")]
    OutOfPlace {
        /// What belongs there.
        wanted: &'static str,
    },
    /// The agent ended the conversation.
    #[error("the agent closed the connection")]
    Closed,
    /// The agent will not do it.
    #[error(transparent)]
    Refused(Fault),
}

/// Says hello and makes the request, in one write.
pub(super) fn begin<'a>(channel: &'a Channel, request: &Request) -> Result<Frames<'a>, TalkError> {
    let mut opening = preamble::CLIENT.to_vec();
    request.encode(&mut opening)?;
    (&*channel).write_all(&opening)?;
    let mut frames = FrameReader::new(BufReader::with_capacity(AHEAD, channel));
    preamble::receive_agent(frames.raw())?;
    Ok(frames)
}

/// The next message; an error message is an error.
pub(super) fn hear(frames: &mut Frames<'_>) -> Result<Reply, TalkError> {
    let frame = frames.read()?.ok_or(TalkError::Closed)?;
    match Reply::decode(frame.kind, frame.payload)? {
        Reply::Error(fault) => Err(TalkError::Refused(fault)),
        reply @ (Reply::Started(_)
        | Reply::Output(_)
        | Reply::Exit(_)
        | Reply::StdinAck(_)
        | Reply::Sessions(_)
        | Reply::Ready(_)
        | Reply::Entry(_)
        | Reply::Done(_)
        | Reply::StatReply(_)
        | Reply::Pong
        | Reply::Hello(_)
        | Reply::Listening(_)) => Ok(reply),
    }
}
