//! The device: connections on one side, a guest's queues on the other. One thread owns it.
//!
//! ```text
//!            commands, sockets ──▶ Device ◀── kicks
//!   to_guest.rs    sockets, files ──one readv──▶ receive buffers ──▶ used ring, one interrupt
//!   from_guest.rs  transmit chains ──one writev──▶ socket or file; backlog if it would block
//!   files.rs       loans of guest memory to threads that transfer files
//!   orders.rs      commands of other threads
//! ```
//!
//! # What it promises
//!
//! - Nothing a guest puts into its queues makes it panic, wait, or hold more than
//!   `MOST_CONNECTIONS` windows of memory.
//! - A connection whose user does not read holds up no other.
//! - A connection with little to send does not wait behind one with much: turns are bounded, and
//!   big ones leave some receive buffers over.

mod files;
mod from_guest;
mod link;
pub(crate) mod orders;
mod to_guest;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

pub(crate) use self::link::Link;
use crate::connection::{Connection, Phase, Waiting};
use crate::handle::ConnectError;
use crate::mailbox::{Mailbox, OnConnect};
use crate::poller::{Event, Interest, Poller, Token};
use crate::spec::shutdown;
use crate::stream::Stream;
use crate::table::{ConnectionId, Ports, Table};
use crate::unix::UnixServers;

/// The device's state.
pub(crate) struct Device {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) poller: Poller,
    link: Option<Link>,
    table: Table,
    /// Connections that have something for the guest, in the order of their turns.
    agenda: VecDeque<ConnectionId>,
    /// Resets for connections that are gone or never were.
    resets: VecDeque<Ports>,
    listeners: HashMap<u32, Listener>,
    unix: UnixServers,
    /// Where accepted streams go: callbacks run on a thread of their own.
    accepted: Sender<(OnConnect, Stream)>,
    next_port: u32,
    /// Bytes that windows may still grow by, over all connections.
    spare_window: u32,
    /// When the next connection's or client's time is up.
    next_deadline: Option<Instant>,
    /// Connections whose files have something to be lent.
    lenders: Vec<ConnectionId>,
    tally: Tally,
    /// Connections that moved much and may have more. The guest is looked at for their sake.
    streaming: Vec<ConnectionId>,
    /// The pass reached its bounds before the end of its work.
    unfinished: bool,
}

/// What one pass over all work came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) tally: Tally,
    /// Some stream may have more.
    pub(crate) is_streaming: bool,
    /// There is more to do at once.
    pub(crate) unfinished: bool,
}

/// What streams did since the last pass. Messages do not count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Bytes of payload that moved, as fast as the guest would have them.
    pub(crate) moved: u64,
    /// Bytes after which the guest should be looked at again.
    pub(crate) expected: u64,
}

impl Tally {
    fn add(&mut self, moved: u64, expected: u64) {
        self.moved = self.moved.saturating_add(moved);
        self.expected = self.expected.max(expected);
    }
}

struct Listener {
    ticket: u64,
    on_connect: OnConnect,
}

/// Connections at once, those that only flush included.
pub(crate) const MOST_CONNECTIONS: usize = 1024;

/// Receive buffer of a connection that has sent nothing yet.
pub(crate) const FIRST_WINDOW: u32 = 64 << 10;

/// Receive buffer of one that sends much.
pub(crate) const LARGE_WINDOW: u32 = 2 << 20;

/// Bytes by which all windows together may exceed the first ones.
const SPARE_WINDOW: u32 = 64 << 20;

/// First of the ports that connections of the host come from; above the guest's listeners.
const FIRST_HOST_PORT: u32 = 0x4000_0000;

/// How long a connection that the guest has closed may take to be read by its user.
const FLUSH_PATIENCE: Duration = Duration::from_secs(120);

impl Device {
    pub(crate) fn new(
        mailbox: Arc<Mailbox>,
        poller: Poller,
        accepted: Sender<(OnConnect, Stream)>,
    ) -> Self {
        Self {
            mailbox,
            poller,
            link: None,
            table: Table::default(),
            agenda: VecDeque::new(),
            resets: VecDeque::new(),
            listeners: HashMap::new(),
            unix: UnixServers::default(),
            accepted,
            next_port: FIRST_HOST_PORT,
            spare_window: SPARE_WINDOW,
            next_deadline: None,
            lenders: Vec::new(),
            tally: Tally::default(),
            streaming: Vec::new(),
            unfinished: false,
        }
    }

    /// Takes note of an event. Work follows in [`work`](Self::work).
    pub(crate) fn note(&mut self, event: Event, now: Instant) {
        match event.token {
            Token::Mail => {}
            Token::RxKick | Token::TxKick => self.note_kick(event.token),
            Token::Server(server) => {
                self.unix.accept(server, &self.poller, now);
                self.next_deadline = Some(now);
            }
            Token::Client(client) => {
                if let Some(wish) = self.unix.hear(client, &self.poller) {
                    let waiting = Waiting::Client(wish.client);
                    self.request(wish.guest_port, waiting, Some(now + CLIENT_PATIENCE)).ok();
                }
            }
            Token::Connection(id) => self.note_socket(id, event.flags),
        }
    }

    /// Does what there is to do now, within bounds.
    pub(crate) fn work(&mut self, now: Instant) -> Pass {
        self.expire(now);
        self.unfinished = false;
        if let Some(mut link) = self.link.take() {
            self.take_from_guest(&mut link);
            self.give_to_guest(&mut link);
            link.signal(&self.mailbox.counters);
            self.link = Some(link);
        }
        self.mailbox
            .counters
            .connections
            .store(u64::try_from(self.table.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Pass {
            tally: std::mem::take(&mut self.tally),
            is_streaming: self.is_streaming(),
            unfinished: self.unfinished,
        }
    }

    fn is_streaming(&mut self) -> bool {
        let Self { streaming, table, .. } = self;
        streaming.sort_unstable();
        streaming.dedup();
        streaming.retain(|id| table.get_mut(*id).is_some_and(|it| it.is_streaming()));
        !streaming.is_empty()
    }

    /// Gives back what was kept for a later, larger batch.
    pub(crate) fn settle(&mut self) {
        if let Some(link) = &mut self.link {
            link.give_back_finished();
            link.signal(&self.mailbox.counters);
        }
    }

    /// Asks the guest for kicks, since nothing is left to do. True if there is something after
    /// all.
    pub(crate) fn arm(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let packets = self.resets.len() < MOST_RESETS && link.tx.arm(&link.memory);
        // Buffers matter only to somebody who has something to put into them.
        let starved = !self.agenda.is_empty() || !self.resets.is_empty();
        let buffers = starved && link.rx.arm(&link.memory);
        packets || buffers
    }

    /// Asks the guest for no kicks: its queues are looked at anyway.
    pub(crate) fn disarm(&mut self) {
        if let Some(link) = &mut self.link {
            link.tx.disarm(&link.memory);
            link.rx.disarm(&link.memory);
        }
    }

    /// Whether transmit descriptors wait to be given back.
    pub(crate) fn has_unsettled(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.finished.is_empty())
    }

    /// When something must be done even if nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Ends every connection of a device that is itself ending.
    pub(crate) fn shut_down(mut self) {
        self.detach();
        for id in self.table.ids() {
            self.end(id, Farewell::Silent);
        }
    }

    fn note_kick(&mut self, token: Token) {
        let Some(link) = &self.link else { return };
        let ring = if token == Token::RxKick { &link.rx } else { &link.tx };
        let Some(kick) = ring.kick() else { return };
        let mut count = [0; 8];
        if rustix::io::read(kick, &mut count).is_ok() {
            self.mailbox.counters.kicks.fetch_add(u64::from_ne_bytes(count), Ordering::Relaxed);
        }
    }

    fn note_socket(&mut self, id: ConnectionId, flags: EventFlags) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            connection.readable = true;
        }
        connection.hung_up |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) && !connection.host_deaf {
            connection.host_deaf = true;
            // Otherwise the guest is told when the last of the user's bytes have been read.
            if connection.host_ended && matches!(connection.phase, Phase::Open) {
                connection.owed.shutdown = host_shutdown(connection);
            }
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            connection.writable = true;
            self.flush(id);
        }
        self.schedule(id);
    }

    /// Has the poller tell of a socket what is not known yet.
    fn update_interest(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let wanted = Interest { arrivals: !connection.readable, room: !connection.writable };
        if connection.interest == wanted {
            return;
        }
        connection.interest = wanted;
        if let Some(socket) = &connection.socket {
            self.poller.change(socket, Token::Connection(id), wanted).ok();
        }
    }

    /// Puts a connection on the agenda if a turn would do something.
    fn schedule(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if !connection.on_agenda && connection.wants_turn() {
            connection.on_agenda = true;
            self.agenda.push_back(id);
        }
    }

    /// Begins a connection to the guest.
    fn request(
        &mut self,
        guest_port: u32,
        waiting: Waiting,
        deadline: Option<Instant>,
    ) -> Result<(), ConnectError> {
        let ports = Ports { guest: guest_port, host: self.free_port(guest_port) };
        if self.table.len() >= MOST_CONNECTIONS {
            let error = ConnectError::TooMany { limit: MOST_CONNECTIONS };
            if let Waiting::Caller { reply, .. } = waiting {
                reply.send(Err(error)).ok();
                return Ok(());
            }
            return Err(error);
        }
        let mut connection = Connection::new(ports, Phase::Requested(waiting), FIRST_WINDOW);
        connection.owed.request = true;
        connection.deadline = deadline;
        if let Some(deadline) = deadline {
            self.next_deadline = Some(self.next_deadline.map_or(deadline, |at| at.min(deadline)));
        }
        if let Some(id) = self.table.insert(connection, MOST_CONNECTIONS) {
            self.schedule(id);
        }
        Ok(())
    }

    /// A guest that has been told that its user is gone has a while to take leave.
    fn limit_farewell(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if connection.host_ended && connection.host_deaf && connection.deadline.is_none() {
            let deadline = Instant::now() + FLUSH_PATIENCE;
            connection.deadline = Some(deadline);
            self.next_deadline = Some(self.next_deadline.map_or(deadline, |at| at.min(deadline)));
        }
    }

    fn free_port(&mut self, guest_port: u32) -> u32 {
        loop {
            let host = self.next_port;
            self.next_port = host.wrapping_add(1).max(FIRST_HOST_PORT);
            // There are far more ports than connections, so this ends.
            if self.table.find(Ports { guest: guest_port, host }).is_none() {
                return host;
            }
        }
    }

    /// Ends a connection for the guest. What it sent is still written to its user.
    fn end(&mut self, id: ConnectionId, farewell: Farewell) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let ports = connection.ports;
        let is_known = !matches!(connection.phase, Phase::Flushing) && !connection.owed.request;
        if farewell == Farewell::Reset && is_known {
            self.resets.push_back(ports);
        }
        connection.outgoing =
            connection.outgoing.take().filter(|outgoing| !outgoing.lent.is_empty());
        connection.incoming = connection.incoming.take().filter(|incoming| !incoming.is_idle());
        match std::mem::replace(&mut connection.phase, Phase::Flushing) {
            Phase::Requested(waiting) => waiting.refuse(ports.guest),
            Phase::Open | Phase::Flushing => {}
        }
        connection.owed = crate::connection::Owed::default();
        connection.deadline = Some(Instant::now() + FLUSH_PATIENCE);
        self.next_deadline = Some(Instant::now());
        self.table.unlist(id);
        self.bury(id);
    }

    /// Removes a connection that is over, unless something of it is still under way.
    fn bury(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Flushing) || connection.is_flushing() {
            return;
        }
        if let Some(gone) = self.table.remove(id) {
            self.spare_window += gone.credit.window() - FIRST_WINDOW.min(gone.credit.window());
            if gone.guest_ended
                && let Some(socket) = &gone.socket
            {
                to_guest::discard_unread(socket);
            }
        }
    }

    /// Gives up on those whose time is up.
    fn expire(&mut self, now: Instant) {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut next = self.unix.expire(now);
        for id in self.table.ids() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            match connection.deadline {
                Some(deadline) if deadline <= now => {
                    connection.backlog.take();
                    connection.deadline = None;
                    self.end(id, Farewell::Reset);
                }
                Some(deadline) => next = Some(next.map_or(deadline, |at| at.min(deadline))),
                None => {}
            }
        }
        self.next_deadline = next;
    }
}

/// Whether the guest is told of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    Reset,
    Silent,
}

impl Waiting {
    /// Tells whoever waits that the guest said no.
    fn refuse(self, guest_port: u32) {
        match self {
            Self::Caller { reply, .. } => {
                reply.send(Err(ConnectError::Refused { port: guest_port })).ok();
            }
            // Closing the socket is the answer, as in Firecracker.
            Self::Client(_) => {}
        }
    }
}

/// Resets that wait for receive buffers. With more, nothing is taken from the guest until it
/// posts some.
const MOST_RESETS: usize = 256;

/// How long the guest may take to answer a client of the Unix socket.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// Both directions of a connection are over for the guest.
fn is_over(connection: &Connection) -> bool {
    connection.guest_ended && connection.guest_deaf
}

/// Flags of a shutdown packet that says what the user's side no longer does.
fn host_shutdown(connection: &Connection) -> u32 {
    let send = if connection.host_ended { shutdown::SEND } else { 0 };
    let receive = if connection.host_deaf { shutdown::RECEIVE } else { 0 };
    send | receive
}
