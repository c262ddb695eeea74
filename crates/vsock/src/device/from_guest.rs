//! From the guest's packets to sockets and files.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::net::{SendFlags, Shutdown};

use super::link::Link;
use super::{Device, FIRST_WINDOW, Farewell, LARGE_WINDOW, MOST_CONNECTIONS, MOST_RESETS};
use super::{host_shutdown, is_over};
use crate::chain::TxPacket;
use crate::connection::{Connection, Phase, Waiting};
use crate::header::Header;
use crate::mailbox::socket_pair;
use crate::poller::Token;
use crate::span::Spans;
use crate::spec::{HOST_CID, Op, TYPE_STREAM, shutdown};
use crate::stream::Stream;
use crate::table::{ConnectionId, Ports};
use crate::vectored::IoVecs;

/// Packets taken in one pass, before the other direction has its turn.
const MOST_PACKETS: usize = 128;

/// Consecutive payloads of one connection, written by one system call.
#[derive(Default)]
pub(super) struct Run {
    id: Option<ConnectionId>,
    spans: Spans,
}

impl Device {
    /// Takes what the guest has sent.
    pub(super) fn take_from_guest(&mut self, link: &mut Link) {
        let mut run = Run::default();
        for _ in 0..MOST_PACKETS {
            if self.resets.len() >= MOST_RESETS {
                break;
            }
            let counters = &self.mailbox.counters;
            let Some((head, packet)) = link.tx.take_packet(&link.memory, counters) else { break };
            counters.packets_from_guest.fetch_add(1, Ordering::Relaxed);
            link.finished_descriptors += packet.payload.count() + 1;
            if !self.take_packet(link, &mut run, head, packet) {
                link.finished.push(head);
            }
        }
        self.write_run(link, &mut run);
        self.lend_arrived(Some(link));
        self.unfinished |= self.resets.len() < MOST_RESETS && link.tx.has_more(&link.memory);
        if link.finished_descriptors >= usize::from(link.tx.size() / GIVE_BACK) {
            link.give_back_finished();
        }
    }

    /// Acts on one packet. True if its descriptors must be kept.
    fn take_packet(&mut self, link: &mut Link, run: &mut Run, head: u16, packet: TxPacket) -> bool {
        let TxPacket { header, payload } = packet;
        if header.src_cid != link.guest_cid || header.dst_cid != HOST_CID {
            self.mailbox.counters.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let ports = Ports { guest: header.src_port, host: header.dst_port };
        let op = Op::from_wire(header.op).filter(|_| header.kind == TYPE_STREAM);
        let id = self.table.find(ports);
        match (op, id) {
            (Some(Op::ReadWrite), Some(id)) => {
                return self.take_bytes(link, run, id, &header, head, payload);
            }
            (Some(op), Some(id)) => {
                // What was sent before a control packet is dealt with before it.
                self.write_run(link, run);
                self.hear(id, &header);
                self.take_control(id, op, header.flags);
            }
            (Some(Op::Request), None) => self.accept(ports, &header),
            (Some(Op::Reset), None) => {}
            (None, Some(id)) => {
                self.mailbox.counters.refused.fetch_add(1, Ordering::Relaxed);
                self.end(id, Farewell::Reset);
            }
            (_, None) => self.resets.push_back(ports),
        }
        false
    }

    fn hear(&mut self, id: ConnectionId, header: &Header) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.credit.heard(header.buf_alloc, header.fwd_cnt);
        }
    }

    fn take_control(&mut self, id: ConnectionId, op: Op, flags: u32) {
        let Some(connection) = self.table.get_mut(id) else { return };
        match op {
            Op::Response if matches!(connection.phase, Phase::Requested(_)) => self.opened(id),
            Op::Reset => self.end(id, Farewell::Silent),
            Op::Shutdown => {
                connection.guest_ended |= flags & shutdown::SEND != 0;
                connection.guest_deaf |= flags & shutdown::RECEIVE != 0;
                self.guest_shut_down(id);
            }
            Op::CreditUpdate | Op::ReadWrite => {}
            Op::CreditRequest => connection.owed.credit = true,
            // A second one of these on a connection makes no sense.
            Op::Request | Op::Response => self.end(id, Farewell::Reset),
        }
        self.schedule(id);
    }

    /// The guest no longer sends, or no longer receives, or both.
    fn guest_shut_down(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if is_over(connection) {
            self.end(id, Farewell::Reset);
            return;
        }
        if let Some(socket) = &connection.socket {
            if connection.guest_deaf {
                rustix::net::shutdown(socket, Shutdown::Read).ok();
            }
            if connection.guest_ended && connection.backlog.is_empty() {
                rustix::net::shutdown(socket, Shutdown::Write).ok();
            }
        }
        if connection.guest_deaf {
            connection.outgoing = connection.outgoing.take().filter(|file| !file.lent.is_empty());
        }
        if connection.guest_ended {
            connection.incoming = connection.incoming.take().filter(|file| !file.is_idle());
        }
    }

    /// The guest has accepted.
    fn opened(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Ports { guest, host } = connection.ports;
        let Phase::Requested(waiting) = std::mem::replace(&mut connection.phase, Phase::Open)
        else {
            return;
        };
        let (socket, answer) = match waiting {
            Waiting::Caller { reply, .. } => match socket_pair() {
                Ok((ours, devices)) => (devices, Some((reply, ours))),
                Err(source) => {
                    reply.send(Err(crate::handle::ConnectError::Socket(source))).ok();
                    self.end(id, Farewell::Reset);
                    return;
                }
            },
            Waiting::Client(client) => {
                if crate::unix::confirm(&client, host).is_err() {
                    self.end(id, Farewell::Reset);
                    return;
                }
                (OwnedFd::from(client), None)
            }
        };
        if !self.open(id, socket) {
            return;
        }
        if let Some((reply, ours)) = answer {
            let mailbox = self.mailbox.clone();
            // A caller that has given up drops the stream, and with it the connection.
            reply.send(Ok(Stream::new(ours, id, (host, guest), mailbox))).ok();
        }
    }

    /// Gives a connection its socket. False, and it is over, if the socket cannot be watched.
    fn open(&mut self, id: ConnectionId, socket: OwnedFd) -> bool {
        let watched = self.poller.add(&socket, Token::Connection(id)).is_ok();
        if let Some(connection) = self.table.get_mut(id) {
            connection.open(socket);
        }
        if !watched {
            self.end(id, Farewell::Reset);
        }
        watched
    }

    /// The guest asks for a connection to a port of the host.
    fn accept(&mut self, ports: Ports, header: &Header) {
        let listener = self.listeners.get(&ports.host).map(|it| it.on_connect.clone());
        let ends = match &listener {
            Some(_) => socket_pair().ok().map(|(ours, devices)| (devices, Some(ours))),
            None => self.unix.connect(ports.host).map(|socket| (socket, None)),
        };
        let connection = Connection::new(ports, Phase::Open, FIRST_WINDOW);
        let Some(((socket, ours), id)) =
            ends.and_then(|ends| Some((ends, self.table.insert(connection, MOST_CONNECTIONS)?)))
        else {
            self.resets.push_back(ports);
            return;
        };
        self.hear(id, header);
        if !self.open(id, socket) {
            return;
        }
        if let Some(connection) = self.table.get_mut(id) {
            connection.owed.response = true;
        }
        if let (Some(on_connect), Some(ours)) = (listener, ours) {
            let names = (ports.host, ports.guest);
            let stream = Stream::new(ours, id, names, self.mailbox.clone());
            self.accepted.send((on_connect, stream)).ok();
        }
        self.schedule(id);
    }

    /// Takes payload. True if its descriptors must be kept, because a file is written from them.
    fn take_bytes(
        &mut self,
        link: &mut Link,
        run: &mut Run,
        id: ConnectionId,
        header: &Header,
        head: u16,
        payload: Spans,
    ) -> bool {
        let Some(connection) = self.table.get_mut(id) else { return false };
        connection.credit.heard(header.buf_alloc, header.fwd_cnt);
        let open = matches!(connection.phase, Phase::Open) && !connection.guest_ended;
        if !open || connection.credit.arrive(payload.bytes()).is_err() {
            self.mailbox.counters.refused.fetch_add(1, Ordering::Relaxed);
            self.end(id, Farewell::Reset);
            return false;
        }
        let bytes = u64::from(payload.bytes());
        if connection.streams_from_guest(bytes) {
            self.tally.add(bytes, connection.credit.expected_from_guest());
            if self.streaming.last() != Some(&id) {
                self.streaming.push(id);
            }
        }
        self.mailbox.counters.bytes_from_guest.fetch_add(bytes, Ordering::Relaxed);
        connection.received += bytes;
        widen(connection, &mut self.spare_window);
        let incoming = connection.incoming.is_some();
        self.schedule(id);
        if incoming {
            self.write_run(link, run);
            return self.take_file_bytes(link, run, id, head, payload);
        }
        self.add_to_run(link, run, id, payload);
        false
    }

    /// Puts payload behind what is about to be written to the same connection.
    pub(super) fn add_to_run(
        &mut self,
        link: &Link,
        run: &mut Run,
        id: ConnectionId,
        payload: Spans,
    ) {
        if run.id != Some(id) || run.spans.count() + payload.count() > LONGEST_RUN {
            self.write_run(link, run);
        }
        run.id = Some(id);
        if run.spans.count() == 0 {
            run.spans = payload;
            return;
        }
        for span in payload.iter() {
            // A window is far below 2^32 bytes, so the sum is too.
            run.spans.push(span).ok();
        }
    }

    /// Writes what was gathered. What the socket does not take goes to the backlog.
    pub(super) fn write_run(&mut self, link: &Link, run: &mut Run) {
        let Run { id: Some(id), spans } = std::mem::take(run) else { return };
        let Some(connection) = self.table.get_mut(id) else { return };
        let mut rest = spans;
        if connection.backlog.is_empty() && connection.writable {
            match send(connection, link, &rest) {
                Ok(sent) => {
                    connection.credit.take(sent);
                    rest = rest.split(sent).1;
                }
                Err(Unwritten::User) => self.user_is_deaf(id),
                Err(Unwritten::Memory) => {
                    self.end(id, Farewell::Reset);
                    return;
                }
            }
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        if connection.host_deaf {
            // Nobody will read it: it counts as read, so that the guest is not held up.
            connection.credit.take(rest.bytes());
        } else if rest.bytes() > 0 {
            if connection.backlog.append(&link.memory, &rest).is_err() {
                self.end(id, Farewell::Reset);
                return;
            }
            self.update_interest(id);
        }
        self.tell_if_worth(id);
    }

    /// Writes the backlog, as far as the socket takes it.
    pub(super) fn flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Some(socket) = &connection.socket else { return };
        while !connection.backlog.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(socket, connection.backlog.waiting(), flags) {
                Ok(sent) => {
                    connection.backlog.advance(sent);
                    connection.credit.take(u32::try_from(sent).unwrap_or(0));
                }
                Err(rustix::io::Errno::AGAIN) => {
                    connection.writable = false;
                    break;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.user_is_deaf(id);
                    break;
                }
            }
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        if connection.backlog.is_empty() {
            if connection.guest_ended
                && let Some(socket) = &connection.socket
            {
                rustix::net::shutdown(socket, Shutdown::Write).ok();
            }
            self.update_interest(id);
        }
        self.tell_if_worth(id);
        self.bury(id);
    }

    /// The user reads no more: drops what waits for it and tells the guest.
    fn user_is_deaf(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let dropped = connection.backlog.take().len();
        connection.credit.take(u32::try_from(dropped).unwrap_or(0));
        connection.host_deaf = true;
        if matches!(connection.phase, Phase::Open) {
            connection.owed.shutdown = host_shutdown(connection);
        }
        self.schedule(id);
    }

    /// Owes the guest a word on credit if it is about to run out of it.
    pub(super) fn tell_if_worth(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if matches!(connection.phase, Phase::Open) && connection.credit.is_worth_telling() {
            connection.owed.credit = true;
            self.schedule(id);
        }
    }
}

/// Why a run was not written.
enum Unwritten {
    /// The user's end is gone.
    User,
    /// The guest's memory is.
    Memory,
}

/// Writes as much as the socket takes; 0 if it takes nothing now.
fn send(connection: &mut Connection, link: &Link, spans: &Spans) -> Result<u32, Unwritten> {
    let Some(socket) = &connection.socket else { return Err(Unwritten::User) };
    let wanted = usize::try_from(spans.bytes()).unwrap_or(0);
    let mut vectors = IoVecs::new(&link.memory);
    vectors.push(spans.iter(), wanted).map_err(|_| Unwritten::Memory)?;
    let mut sent = 0;
    while vectors.bytes() > 0 {
        match vectors.send(socket.as_fd()) {
            Ok(bytes) => {
                vectors.advance(bytes);
                sent += u32::try_from(bytes).unwrap_or(0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.writable = false;
                break;
            }
            Err(_) => return Err(Unwritten::User),
        }
    }
    Ok(sent)
}

/// Gives a connection that turns out to send something a larger window.
fn widen(connection: &mut Connection, spare: &mut u32) {
    let window = connection.credit.window();
    let wanted = if connection.received >= BULK { LARGE_WINDOW } else { MIDDLE_WINDOW };
    let more = wanted.saturating_sub(window).min(*spare);
    if more > 0 {
        *spare -= more;
        connection.credit.widen(window.saturating_add(more));
    }
}

/// Window of a connection that has sent something.
const MIDDLE_WINDOW: u32 = 256 << 10;

/// Bytes after which a connection counts as one that sends much.
const BULK: u64 = 128 << 10;

/// Pieces that one system call writes at most.
const LONGEST_RUN: usize = 512;

/// Transmit descriptors are given back when this fraction of the ring waits for it. The rest must
/// be enough for what the guest sends meanwhile.
const GIVE_BACK: u16 = 2;
