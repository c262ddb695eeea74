//! One exec session as its client sees it, over any number of connections. No I/O.

use bandsox_proto::v2::{
    Ack, Attach, DecodeError, Exec, Exit, Fault, Output, Reply, Request, SessionId, Signal,
    Started, Stdin, StdinAck, StdinEof, StreamName, WindowSize, preamble,
};

use super::inbound::{Inbound, InboundError};
use super::input::Input;

/// Largest piece of stdin in one message, in bytes.
const STDIN_PIECE: usize = 64 * 1024;

/// How much output may be unacknowledged before an acknowledgement is worth its packet, in bytes.
/// The agent keeps up to 1 MiB.
const ACK_EVERY: usize = 128 * 1024;

/// How a conversation begins.
#[derive(Clone, Debug)]
pub enum Begin {
    /// Run a command in a new session.
    Run(Exec),
    /// Join a session that exists, from the first output that it has kept.
    Join(SessionId),
}

impl Begin {
    /// The session's id.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Run(exec) => exec.session,
            Self::Join(session) => *session,
        }
    }
}

/// What happened in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session exists and this connection is attached.
    Started(Started),
    /// Output that had not arrived before.
    Output(StreamName, Vec<u8>),
    /// The command is over, and all its output has arrived.
    Exited(Exit),
    /// The agent will not do it.
    Refused(Fault),
}

/// The agent broke the protocol; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaved {
    /// Its bytes are not messages.
    #[error("the agent sent something that is no message")]
    Message(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A message that does not belong here.
    #[error("the agent sent a message out of place")]
    OutOfPlace,
    /// Output is missing.
    #[error("output {expected} was expected and {found} came")]
    Gap {
        /// The number that should have come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// Another session's answer.
    #[error("the agent answered for session {found}")]
    Session {
        /// Its id.
        found: SessionId,
    },
    /// It claims to have input that was never sent, or asks for input that it had confirmed.
    #[error("the agent claims {found} bytes of input; {low} to {high} are possible")]
    Input {
        /// Its claim, in bytes.
        found: u64,
        /// What it had confirmed, in bytes.
        low: u64,
        /// What was sent, in bytes.
        high: u64,
    },
}

impl From<InboundError> for Misbehaved {
    fn from(error: InboundError) -> Self {
        Self::Message(Box::new(error))
    }
}

/// A session's client: what was sent, what has arrived, what must be said again after a
/// connection was lost.
#[derive(Debug)]
pub struct Conversation {
    begin: Begin,
    /// Whether the agent ever confirmed the session.
    known: bool,
    /// Whether this connection is attached.
    attached: bool,
    next_seq: u64,
    unacknowledged: usize,
    input: Input,
    size: Option<WindowSize>,
    inbound: Inbound,
    outbound: Vec<u8>,
    finished: bool,
}

impl Conversation {
    /// A conversation without a connection yet; call [`connected`](Self::connected).
    #[must_use]
    pub fn new(begin: Begin) -> Self {
        let size = match &begin {
            Begin::Run(exec) => exec.tty,
            Begin::Join(_) => None,
        };
        Self {
            begin,
            known: false,
            attached: false,
            next_seq: 0,
            unacknowledged: 0,
            input: Input::default(),
            size,
            inbound: Inbound::default(),
            outbound: Vec::new(),
            finished: false,
        }
    }

    /// The session's id.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.begin.session()
    }

    /// Whether the agent has confirmed that the session exists.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Starts over on a new connection: says hello, and asks for what this client has not got.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] if the command does not fit into a message.
    pub fn connected(&mut self) -> Result<(), DecodeError> {
        self.inbound = Inbound::default();
        self.outbound.clear();
        self.outbound.extend_from_slice(&preamble::CLIENT);
        self.attached = false;
        self.unacknowledged = 0;
        let request = match &self.begin {
            // The agent may or may not have got it; an id that it knows is not run again.
            Begin::Run(exec) if !self.known => {
                Request::Exec(Exec { tty: self.size, ..exec.clone() })
            }
            Begin::Run(Exec { session, .. }) | Begin::Join(session) => {
                Request::Attach(Attach { session: *session, from_seq: self.next_seq })
            }
        };
        request.encode(&mut self.outbound)
    }

    /// Takes bytes that arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.inbound.push(bytes);
    }

    /// The next thing that happened, out of the bytes received so far.
    ///
    /// # Errors
    ///
    /// [`Misbehaved`]
    pub fn next_event(&mut self) -> Result<Option<Event>, Misbehaved> {
        while let Some(reply) = self.inbound.next_reply()? {
            let event = match reply {
                Reply::Started(started) => Some(self.started(started)?),
                Reply::Output(output) => self.output(output)?,
                Reply::Exit(exit) => Some(self.exited(exit)?),
                Reply::StdinAck(StdinAck { offset }) => {
                    self.input.confirm(offset)?;
                    self.send_input();
                    None
                }
                Reply::Error(fault) => Some(Event::Refused(fault)),
                Reply::Pong => None,
                Reply::Sessions(_)
                | Reply::Ready(_)
                | Reply::Entry(_)
                | Reply::Done(_)
                | Reply::StatReply(_)
                | Reply::Hello(_)
                | Reply::Listening(_) => return Err(Misbehaved::OutOfPlace),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// How many bytes of standard input can be taken now.
    #[must_use]
    pub fn input_room(&self) -> usize {
        if !self.attached || self.input.ended || self.finished {
            return 0;
        }
        let window = usize::try_from(StdinAck::WINDOW).unwrap_or(usize::MAX);
        window.saturating_sub(self.input.kept.len()).min(STDIN_PIECE)
    }

    /// Takes standard input, at most [`input_room`](Self::input_room) bytes.
    pub fn input(&mut self, bytes: &[u8]) {
        self.input.kept.extend_from_slice(bytes);
        self.send_input();
    }

    /// Says that standard input is at its end.
    pub fn end_input(&mut self) {
        self.input.ended = true;
        self.send_input();
    }

    /// Sends a signal to the command, if a connection is attached.
    pub fn signal(&mut self, number: u8) {
        if self.attached {
            self.say(&Request::Signal(Signal { number }));
        }
    }

    /// Tells the command the new size of the terminal; remembered until a connection is attached.
    pub fn resize(&mut self, size: WindowSize) {
        self.size = Some(size);
        if self.attached {
            self.say(&Request::Resize(size));
        }
    }

    /// Says that `length` bytes of the output received last have been passed on.
    pub fn delivered(&mut self, length: usize) {
        self.unacknowledged = self.unacknowledged.saturating_add(length);
        if self.unacknowledged >= ACK_EVERY {
            self.unacknowledged = 0;
            self.say(&Request::Ack(Ack { seq: self.next_seq }));
        }
    }

    /// Bytes to send.
    #[must_use]
    pub fn outbound(&self) -> &[u8] {
        &self.outbound
    }

    /// Says that the first `length` bytes of [`outbound`](Self::outbound) have been sent.
    pub fn sent(&mut self, length: usize) {
        self.outbound.drain(..length.min(self.outbound.len()));
    }

    fn started(&mut self, started: Started) -> Result<Event, Misbehaved> {
        if started.session != self.session() {
            return Err(Misbehaved::Session { found: started.session });
        }
        if self.attached {
            return Err(Misbehaved::OutOfPlace);
        }
        if self.known {
            if started.first_seq > self.next_seq {
                let expected = self.next_seq;
                return Err(Misbehaved::Gap { expected, found: started.first_seq });
            }
            self.input.confirm(started.stdin_offset)?;
        } else {
            // What an earlier client got, and sent, is not ours to ask for again.
            self.next_seq = started.first_seq;
            self.input.base = started.stdin_offset;
        }
        let resumed = self.known || started.resumed;
        self.known = true;
        self.attached = true;
        self.input.sent = self.input.base;
        self.input.end_sent = false;
        if let Some(size) = self.size.filter(|_| resumed) {
            self.say(&Request::Resize(size));
        }
        self.send_input();
        Ok(Event::Started(started))
    }

    fn output(&mut self, output: Output) -> Result<Option<Event>, Misbehaved> {
        if !self.attached || self.finished {
            return Err(Misbehaved::OutOfPlace);
        }
        let Output { seq, stream, data } = output;
        if seq < self.next_seq {
            return Ok(None);
        }
        if seq > self.next_seq {
            return Err(Misbehaved::Gap { expected: self.next_seq, found: seq });
        }
        self.next_seq = self.next_seq.saturating_add(1);
        Ok(Some(Event::Output(stream, data)))
    }

    fn exited(&mut self, exit: Exit) -> Result<Event, Misbehaved> {
        if !self.attached || self.finished {
            return Err(Misbehaved::OutOfPlace);
        }
        if exit.seq != self.next_seq {
            return Err(Misbehaved::Gap { expected: self.next_seq, found: exit.seq });
        }
        self.finished = true;
        self.say(&Request::Ack(Ack { seq: exit.seq.saturating_add(1) }));
        Ok(Event::Exited(exit))
    }

    fn send_input(&mut self) {
        if !self.attached || self.finished {
            return;
        }
        let limit = self.input.base.saturating_add(StdinAck::WINDOW);
        while self.input.sent < self.input.end().min(limit) {
            let from = self.input.sent.saturating_sub(self.input.base);
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let rest = self.input.kept.get(from..).unwrap_or_default();
            let data = rest.get(..STDIN_PIECE.min(rest.len())).unwrap_or_default().to_vec();
            let offset = self.input.sent;
            self.input.sent = offset.saturating_add(u64::try_from(data.len()).unwrap_or(0));
            self.say(&Request::Stdin(Stdin { offset, data }));
        }
        if self.input.ended && !self.input.end_sent && self.input.sent == self.input.end() {
            self.input.end_sent = true;
            let offset = self.input.sent;
            self.say(&Request::StdinEof(StdinEof { offset }));
        }
    }

    fn say(&mut self, request: &Request) {
        request
            .encode(&mut self.outbound)
            .expect("everything but the command itself is smaller than a frame");
    }
}
