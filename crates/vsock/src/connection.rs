//! One connection's state, without what happens to it.
//!
//! ```text
//!   Requested --RESPONSE--> Open --RST, or SHUTDOWN both ways--> Flushing --all written--> gone
//!       └──────RST, deadline────────────────────────────────────────────────────────────▶ gone
//! ```

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::backlog::Backlog;
use crate::chain::RxBuffer;
use crate::credit::Credit;
use crate::handle::ConnectError;
use crate::mailbox::Reply;
use crate::poller::Interest;
use crate::span::Spans;
use crate::spec::Op;
use crate::stream::Stream;
use crate::table::Ports;
use crate::transfer::Loan;

/// One connection.
pub(crate) struct Connection {
    pub(crate) ports: Ports,
    pub(crate) phase: Phase,
    pub(crate) credit: Credit,
    pub(crate) owed: Owed,
    /// When it is given up, if nothing happens.
    pub(crate) deadline: Option<Instant>,

    /// The device's end of the user's socket; none until the guest has accepted.
    pub(crate) socket: Option<OwnedFd>,
    /// The socket may have bytes for the guest.
    pub(crate) readable: bool,
    /// The socket may take bytes from the guest.
    pub(crate) writable: bool,
    /// What the poller tells of the socket.
    pub(crate) interest: Interest,
    /// The user's end is closed, at least for writing: reading ends with an end of file.
    pub(crate) hung_up: bool,
    /// The end of the user's bytes has been read.
    pub(crate) host_ended: bool,
    /// The user reads no more.
    pub(crate) host_deaf: bool,
    /// The guest has said that it sends no more.
    pub(crate) guest_ended: bool,
    /// The guest has said that it receives no more.
    pub(crate) guest_deaf: bool,

    /// What the user has not taken yet.
    pub(crate) backlog: Backlog,
    /// A file on its way to the guest.
    pub(crate) outgoing: Option<Outgoing>,
    /// A file on its way from the guest.
    pub(crate) incoming: Option<Incoming>,

    /// It is on the list of those that have something for the guest.
    pub(crate) on_agenda: bool,
    /// Its last turn used up all it was given: it must leave room for others.
    pub(crate) bulky: bool,
    /// Bytes that the guest has sent in its whole life; decides the window.
    pub(crate) received: u64,
    /// Bytes that moved one way since the last small message the other way.
    pub(crate) streak_to_guest: u64,
    pub(crate) streak_from_guest: u64,
}

/// Where a connection is in its life.
pub(crate) enum Phase {
    /// We asked the guest; somebody waits for its answer.
    Requested(Waiting),
    /// Bytes flow.
    Open,
    /// Over for the guest; what it sent is still being written.
    Flushing,
}

/// Who waits for the guest's answer.
pub(crate) enum Waiting {
    /// A thread of this program.
    Caller { ticket: u64, reply: Reply<Result<Stream, ConnectError>> },
    /// A client of the Unix socket.
    Client(UnixStream),
}

/// Packets without payload that are still to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) request: bool,
    pub(crate) response: bool,
    /// Flags of a shutdown packet; 0 is none.
    pub(crate) shutdown: u32,
    pub(crate) credit: bool,
    pub(crate) credit_request: bool,
}

impl Owed {
    /// What must go before any data.
    pub(crate) fn before_data(self) -> Option<Op> {
        if self.request {
            Some(Op::Request)
        } else if self.response {
            Some(Op::Response)
        } else if self.credit_request {
            Some(Op::CreditRequest)
        } else {
            None
        }
    }

    /// Takes note that such a packet has been sent. Any packet tells of credit.
    pub(crate) fn settle(&mut self, op: Op) {
        match op {
            Op::Request => self.request = false,
            Op::Response => self.response = false,
            Op::CreditRequest => self.credit_request = false,
            Op::Shutdown => self.shutdown = 0,
            Op::CreditUpdate | Op::ReadWrite | Op::Reset => {}
        }
        self.credit = false;
    }
}

/// A file on its way to the guest.
pub(crate) struct Outgoing {
    /// Bytes that are not in guest memory yet.
    pub(crate) left: u64,
    pub(crate) loans: Sender<Loan>,
    /// What was written to the socket before it has been sent.
    pub(crate) begun: bool,
    /// Receive buffers that the caller's thread is filling.
    pub(crate) lent: VecDeque<RxBuffer>,
}

/// A file on its way from the guest.
pub(crate) struct Incoming {
    /// Bytes that have not arrived yet.
    pub(crate) left: u64,
    pub(crate) loans: Sender<Loan>,
    /// Bytes that the caller's thread is writing, and their descriptors.
    pub(crate) lent: Option<u32>,
    pub(crate) lent_heads: Vec<u16>,
    /// Payload that waits for the caller's thread in guest memory, and its descriptors.
    pub(crate) held: Spans,
    pub(crate) held_heads: Vec<u16>,
    /// Payload behind it that had to be copied, so that the queue is not all used up.
    pub(crate) overflow: Backlog,
}

impl Incoming {
    pub(crate) fn new(left: u64, loans: Sender<Loan>) -> Self {
        Self {
            left,
            loans,
            lent: None,
            lent_heads: Vec::new(),
            held: Spans::default(),
            held_heads: Vec::new(),
            overflow: Backlog::default(),
        }
    }

    /// Nothing that has arrived is still to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.lent.is_none() && self.held.bytes() == 0 && self.overflow.is_empty()
    }

    /// Leaves payload where it is until the caller's thread takes it.
    pub(crate) fn hold(&mut self, head: u16, payload: &Spans) {
        for span in payload.iter() {
            // A window is far below 2^32 bytes, so the sum is too.
            self.held.push(span).ok();
        }
        self.held_heads.push(head);
    }
}

/// Bytes of a message that may be an acknowledgement: what it acknowledges was no endless stream.
const SMALL: u64 = 4 << 10;

/// Bytes one way that make a stream: more than a message and less than a file worth the name.
const STREAM: u64 = 256 << 10;

impl Connection {
    pub(crate) fn new(ports: Ports, phase: Phase, window: u32) -> Self {
        Self {
            ports,
            phase,
            credit: Credit::new(window),
            owed: Owed::default(),
            deadline: None,
            socket: None,
            readable: false,
            writable: false,
            interest: Interest { arrivals: true, room: false },
            hung_up: false,
            host_ended: false,
            host_deaf: false,
            guest_ended: false,
            guest_deaf: false,
            backlog: Backlog::default(),
            outgoing: None,
            incoming: None,
            on_agenda: false,
            bulky: false,
            received: 0,
            streak_to_guest: 0,
            streak_from_guest: 0,
        }
    }

    /// Takes note of bytes for the guest. True if they belong to a stream that goes on, and not to
    /// a message that will be answered.
    pub(crate) fn streams_to_guest(&mut self, bytes: u64) -> bool {
        if bytes < SMALL {
            self.streak_from_guest = 0;
        }
        self.streak_to_guest = self.streak_to_guest.saturating_add(bytes);
        self.streak_to_guest >= STREAM
    }

    /// The same for bytes from the guest.
    pub(crate) fn streams_from_guest(&mut self, bytes: u64) -> bool {
        if bytes < SMALL {
            self.streak_to_guest = 0;
        }
        self.streak_from_guest = self.streak_from_guest.saturating_add(bytes);
        self.streak_from_guest >= STREAM
    }

    /// Gives it its socket.
    pub(crate) fn open(&mut self, socket: OwnedFd) {
        self.socket = Some(socket);
        self.phase = Phase::Open;
        self.deadline = None;
        self.readable = true;
        self.writable = true;
    }

    /// Whether some of its memory is with another thread.
    pub(crate) fn has_loan(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| !outgoing.lent.is_empty())
            || self.incoming.as_ref().is_some_and(|incoming| incoming.lent.is_some())
    }

    /// Whether bytes of the guest are still on their way to a socket or file.
    pub(crate) fn is_flushing(&self) -> bool {
        self.has_loan()
            || !self.backlog.is_empty()
            || self.incoming.as_ref().is_some_and(|incoming| !incoming.is_idle())
    }

    /// Gives up on a file whose buffers are no longer the guest's.
    pub(crate) fn forget_outgoing(&mut self) {
        self.outgoing = self.outgoing.take().filter(|outgoing| outgoing.lent.is_empty());
    }

    /// Whether a stream that has moved much may still have more.
    pub(crate) fn is_streaming(&self) -> bool {
        if !matches!(self.phase, Phase::Open) {
            return false;
        }
        let to_guest = self.has_source() || self.outgoing.is_some();
        to_guest || (self.streak_from_guest >= STREAM && !self.guest_ended)
    }

    /// Whether bytes of its user could go to the guest now, credit apart.
    pub(crate) fn has_source(&self) -> bool {
        if self.guest_deaf || !matches!(self.phase, Phase::Open) {
            return false;
        }
        match &self.outgoing {
            Some(outgoing) if outgoing.begun => outgoing.lent.is_empty(),
            Some(_) | None => self.readable && !self.host_ended,
        }
    }

    /// Whether a turn would do something.
    pub(crate) fn wants_turn(&self) -> bool {
        self.owed != Owed::default() || (self.has_source() && self.credit.sendable() > 0)
    }
}
