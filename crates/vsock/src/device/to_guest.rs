//! From sockets into the guest's receive buffers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;

use super::link::{Link, Packet};
use super::{Device, Tally, host_shutdown};
use crate::connection::{Connection, Owed, Phase};
use crate::header::Header;
use crate::spec::Op;
use crate::stats::Counters;
use crate::table::Ports;
use crate::vectored::IoVecs;

/// Bytes that one connection may send before the next has its turn.
const TURN_BYTES: u32 = 256 << 10;

/// Turns in one pass. More wait until kicks and commands have been looked at.
const MOST_TURNS: usize = 256;

/// Receive buffers that are kept for short messages, as a fraction of the ring's entries. Linux
/// posts one buffer for two entries, or one for each.
const RESERVE: u16 = 16;

/// Receive buffers of the reserve that one connection may use before it counts as one that has
/// much to send.
const ALLOWANCE: usize = 2;

/// What came of a turn.
pub(super) enum Turn {
    /// Nothing more to send now.
    Rest,
    /// There may be more.
    Again,
    /// There is more, and no buffer for it.
    Starved,
}

impl Device {
    /// Fills the guest's receive buffers, as far as there are any and something to put in.
    pub(super) fn give_to_guest(&mut self, link: &mut Link) {
        if self.resets.is_empty() && self.agenda.is_empty() {
            return;
        }
        link.refill(&self.mailbox.counters);
        self.give_resets(link);
        let mut starved = Vec::new();
        for _ in 0..MOST_TURNS {
            let Some(id) = self.agenda.pop_front() else { break };
            let Some(connection) = self.table.get_mut(id) else { continue };
            let moved = self.tally.moved;
            let outcome = turn(connection, link, &self.mailbox.counters, &mut self.tally);
            if self.tally.moved > moved {
                self.streaming.push(id);
            }
            match outcome {
                Turn::Rest => connection.on_agenda = false,
                Turn::Again => self.agenda.push_back(id),
                Turn::Starved => starved.push(id),
            }
            // While there is more to read at once, nothing needs to be told.
            if !matches!(outcome, Turn::Again) {
                self.update_interest(id);
            }
            self.limit_farewell(id);
            if link.pool.is_empty() {
                link.refill(&self.mailbox.counters);
            }
        }
        self.unfinished |= !self.agenda.is_empty();
        // First in line when there are buffers again.
        for id in starved.into_iter().rev() {
            self.agenda.push_front(id);
        }
    }

    fn give_resets(&mut self, link: &mut Link) {
        while let Some(Ports { guest, host }) = self.resets.front().copied() {
            let Some(buffer) = link.pool.pop_front() else { return };
            let header = Header::to_guest(link.guest_cid, host, guest, Op::Reset);
            link.put(&buffer, header, &self.mailbox.counters);
            self.resets.pop_front();
        }
    }
}

fn turn(
    connection: &mut Connection,
    link: &mut Link,
    counters: &Counters,
    tally: &mut Tally,
) -> Turn {
    // Data last but for a shutdown, which must come behind it, and credit, which may ride on it.
    while let Some(op) = connection.owed.before_data() {
        let Some(buffer) = link.pool.pop_front() else { return Turn::Starved };
        link.put_for(connection, &buffer, Packet::bare(op), counters);
    }
    let data = if connection.has_source() {
        give_data(connection, link, counters, tally)
    } else {
        Turn::Rest
    };
    if let Turn::Starved = data {
        return data;
    }
    give_rest(connection, link, counters).unwrap_or(data)
}

/// Sends what may come behind data. `Some` if there was no buffer for it.
fn give_rest(connection: &mut Connection, link: &mut Link, counters: &Counters) -> Option<Turn> {
    if connection.owed.shutdown != 0 {
        let Some(buffer) = link.pool.pop_front() else { return Some(Turn::Starved) };
        let packet = Packet { op: Op::Shutdown, flags: connection.owed.shutdown, len: 0 };
        link.put_for(connection, &buffer, packet, counters);
    }
    if connection.owed.credit {
        let Some(buffer) = link.pool.pop_front() else { return Some(Turn::Starved) };
        link.put_for(connection, &buffer, Packet::bare(Op::CreditUpdate), counters);
    }
    debug_assert_eq!(connection.owed, Owed::default(), "a packet was forgotten");
    None
}

/// Receives from the user's socket right into the guest's buffers, as many as one turn allows.
fn give_data(
    connection: &mut Connection,
    link: &mut Link,
    counters: &Counters,
    tally: &mut Tally,
) -> Turn {
    if connection.outgoing.as_ref().is_some_and(|outgoing| outgoing.begun) {
        return super::files::lend_buffers(connection, link);
    }
    let credit = connection.credit.sendable();
    if credit == 0 {
        return Turn::Rest;
    }
    let wanted = usize::try_from(credit.min(TURN_BYTES)).unwrap_or(0);
    let Some((got, room)) = receive(connection, link, wanted) else { return Turn::Starved };
    match got {
        Ok(0) => end_of_user(connection),
        Ok(bytes) => {
            fill(connection, link, bytes, counters);
            connection.bulky = bytes == room;
            let moved = u64::try_from(bytes).unwrap_or(0);
            if connection.streams_to_guest(moved) {
                tally.add(moved, connection.credit.expected_by_guest());
            }
            if bytes == room || connection.hung_up {
                return Turn::Again;
            }
            connection.readable = false;
            begin_file(connection)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Turn::Again,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            connection.readable = false;
            connection.bulky = false;
            begin_file(connection)
        }
        // The user's end is gone and took unread bytes along.
        Err(_) => {
            connection.host_deaf = true;
            end_of_user(connection)
        }
    }
}

/// What one system call got, and how much it could have; `None` without a buffer to spare.
fn receive(
    connection: &Connection,
    link: &Link,
    wanted: usize,
) -> Option<(io::Result<usize>, usize)> {
    let socket = connection.socket.as_ref()?;
    let mut vectors = IoVecs::new(&link.memory);
    for buffer in link.pool.iter().take(spare_buffers(connection, link)) {
        if vectors.push(buffer.payload.iter(), wanted - vectors.bytes()).is_err()
            || vectors.bytes() == wanted
        {
            break;
        }
    }
    let room = vectors.bytes();
    if room == 0 { None } else { Some((vectors.receive(socket.as_fd()), room)) }
}

/// Receive buffers that a connection may use now. Some are left over for those that have little to
/// send, and for packets without payload.
pub(super) fn spare_buffers(connection: &Connection, link: &Link) -> usize {
    let have = link.pool.len();
    let beyond_reserve = have.saturating_sub(usize::from(link.rx.size() / RESERVE));
    if connection.bulky { beyond_reserve } else { beyond_reserve.max(have.min(ALLOWANCE)) }
}

/// Turns the first buffers of the pool, which hold `bytes` bytes, into packets.
fn fill(connection: &mut Connection, link: &mut Link, bytes: usize, counters: &Counters) {
    let mut left = u32::try_from(bytes).unwrap_or(0);
    while left > 0 {
        let Some(buffer) = link.pool.pop_front() else { break };
        let len = buffer.payload.bytes().min(left);
        left -= len;
        connection.credit.send(len);
        link.put_for(connection, &buffer, Packet { op: Op::ReadWrite, flags: 0, len }, counters);
    }
}

/// The user has sent all: says so to the guest.
fn end_of_user(connection: &mut Connection) -> Turn {
    connection.readable = false;
    connection.host_ended = true;
    connection.host_deaf |= connection.socket.as_ref().is_some_and(has_hung_up);
    connection.owed.shutdown = host_shutdown(connection);
    // A file cannot follow the end of the stream.
    connection.outgoing = None;
    Turn::Rest
}

/// Whether the user's end is closed altogether. The event that says so may still be on its way.
fn has_hung_up(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let polled = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP))
}

/// All that was written before the file has been sent.
fn begin_file(connection: &mut Connection) -> Turn {
    match (&mut connection.outgoing, &connection.phase) {
        (Some(outgoing), Phase::Open) => {
            outgoing.begun = true;
            Turn::Again
        }
        _ => Turn::Rest,
    }
}

/// Throws away what nobody will receive, so that the user's end sees an end and not a reset.
pub(super) fn discard_unread(socket: &OwnedFd) {
    let mut scratch = [0; 16 << 10];
    for _ in 0..MOST_DISCARDS {
        match rustix::net::recv(socket, &mut scratch, RecvFlags::DONTWAIT) {
            Ok((bytes, _)) if bytes > 0 => {}
            _ => return,
        }
    }
}

/// System calls that throwing away may take.
const MOST_DISCARDS: usize = 64;
