//! Host to guest.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::time::Duration;

use bandsox_files::{Owners, SendError, SendOptions, Source, send};
use bandsox_proto::ByteString;
use bandsox_proto::v2::{Done, Put, Reply, Request};

use super::talk::{self, TalkError};
use crate::channel::Channel;
use crate::packet::readable;

/// What is in the guest now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where.
    pub path: ByteString,
    /// What was sent, and what was left out.
    pub sent: Done,
}

/// Why files did not get into the guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The local side failed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The agent failed, or the connection did.
    #[error(transparent)]
    Talk(#[from] TalkError),
}

/// Copies a file or a directory into the guest: to `path`, or, if that is a directory, to `name` in
/// it. `progress` is told how many bytes went since the call before. Uses the channel up.
///
/// # Errors
///
/// [`PutError`]; files that were complete by then are in place, the others are as they were.
pub fn put_tree(
    channel: &Channel,
    source: Source,
    path: ByteString,
    name: Option<ByteString>,
    progress: &mut dyn FnMut(u64),
) -> Result<Stored, PutError> {
    let put = Put { path, tree: true, name, parents: false };
    let mut frames = talk::begin(channel, &Request::Put(put))?;
    let Reply::Ready(ready) = talk::hear(&mut frames)? else {
        return Err(TalkError::OutOfPlace { wanted: "Ready" }.into());
    };
    let options = SendOptions { owners: Owners::Ignore };
    let sent = send(source, options, &mut Unanswered(channel), &mut |moved| {
        progress(moved);
        match readable(channel.as_fd(), Duration::ZERO) {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) | Err(_) => ControlFlow::Break(()),
        }
    });
    let sent = match sent {
        Ok(sent) => sent,
        Err(error @ (SendError::Channel(_) | SendError::Stopped)) => {
            return Err(match talk::hear(&mut frames) {
                Err(refused @ TalkError::Refused(_)) => refused.into(),
                Ok(_) | Err(_) => error.into(),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let Reply::Done(_) = talk::hear(&mut frames)? else {
        return Err(TalkError::OutOfPlace { wanted: "Done" }.into());
    };
    Ok(Stored { path: ready.path, sent })
}

/// A channel on which the agent has nothing to say until all is sent, unless it failed.
struct Unanswered<'a>(&'a Channel);

impl Write for Unanswered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write_while_unanswered(bytes)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::BrokenPipe.into()),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
