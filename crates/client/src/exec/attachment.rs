//! What a session has around it, and how it can end.

use std::error::Error;
use std::io;
use std::os::fd::BorrowedFd;

use bandsox_proto::v2::{DecodeError, Exit, Fault, SessionId, Started, WindowSize};

use super::conversation::Misbehaved;
use crate::channel::Channel;

/// This process's ends of the command's streams.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// What the command reads; without it, it reads end-of-file.
    pub stdin: Option<BorrowedFd<'a>>,
    /// What it writes to standard output.
    pub stdout: BorrowedFd<'a>,
    /// What it writes to standard error.
    pub stderr: BorrowedFd<'a>,
}

/// What somebody on this side wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send the command this signal; while there is no connection, give up instead.
    Signal(u8),
    /// The terminal has a new size.
    Resize(WindowSize),
}

/// Why there is no channel.
#[derive(Debug)]
pub enum LinkError {
    /// It may be different in a moment.
    Temporary(Box<dyn Error + Send + Sync>),
    /// The VM is gone.
    Final(Box<dyn Error + Send + Sync>),
}

/// What a session needs of its surroundings.
pub trait Attachment {
    /// Opens a channel to the agent; called again whenever the last one was lost.
    ///
    /// # Errors
    ///
    /// [`LinkError`]
    fn connect(&mut self) -> Result<Channel, LinkError>;

    /// A descriptor that becomes readable when [`commands`](Self::commands) has something.
    fn wake(&self) -> Option<BorrowedFd<'_>>;

    /// What is wanted since the last call.
    fn commands(&mut self) -> Vec<Command>;

    /// A connection was lost, and another one will be tried.
    fn lost(&mut self) {}

    /// The session exists. Returning [`Flow::Leave`] leaves it running.
    fn started(&mut self, _started: &Started) -> Flow {
        Flow::Stay
    }
}

/// Whether to go on with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Until its end.
    Stay,
    /// It runs on without us.
    Leave,
}

/// How a session ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command is over and all its output is written.
    Exited(Exit),
    /// It runs on; see [`Flow::Leave`].
    Left,
    /// Nobody reads its output any more, and it was told so as a pipe would.
    OutputClosed,
}

/// Why a session could not be seen to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// There is no channel to the agent.
    #[error("cannot reach the agent in the VM")]
    Connect(#[source] Box<dyn Error + Send + Sync>),
    /// The connection was lost for good; the command may run on.
    #[error("lost the connection to session {session}")]
    Lost {
        /// Which session.
        session: SessionId,
        /// Why there is no new one.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The agent will not do it.
    #[error(transparent)]
    Refused(Fault),
    /// The agent does not keep to the protocol.
    #[error(transparent)]
    Misbehaved(#[from] Misbehaved),
    /// The command is too long for the protocol.
    #[error("the command and its environment are too long")]
    TooLong(#[from] DecodeError),
    /// One of this process's own descriptors failed.
    #[error("cannot {what}")]
    Local {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A signal came while there was no connection to pass it on.
    #[error("interrupted while there was no connection to session {session}")]
    Interrupted {
        /// Which session.
        session: SessionId,
        /// Signal number.
        signal: u8,
    },
}
