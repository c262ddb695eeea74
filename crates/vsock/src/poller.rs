//! What the device's thread waits for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::table::ConnectionId;

/// Who an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The mailbox.
    Mail,
    /// The guest kicked its receive queue: it has posted buffers.
    RxKick,
    /// The guest kicked its transmit queue: it has sent packets.
    TxKick,
    /// A Unix socket that is served, by ticket.
    Server(u32),
    /// A client of one that has not said yet where to, by number.
    Client(u32),
    /// A connection's socket.
    Connection(ConnectionId),
}

/// What a socket is watched for, besides its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Bytes that arrive.
    pub(crate) arrivals: bool,
    /// Room for bytes.
    pub(crate) room: bool,
}

/// Token and what happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) flags: EventFlags,
}

/// Edge-triggered waiting for many descriptors.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// Events taken at once.
const MOST_EVENTS: usize = 64;

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Tells of each time that something arrives at `fd`, until it is closed or removed.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token.to_bits()), flags)?)
    }

    /// Changes what is told of `fd`: an end of it always, arrivals and room as wanted.
    pub(crate) fn change(&self, fd: impl AsFd, token: Token, wanted: Interest) -> io::Result<()> {
        let mut flags = EventFlags::RDHUP | EventFlags::ET;
        flags.set(EventFlags::IN, wanted.arrivals);
        flags.set(EventFlags::OUT, wanted.room);
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(token.to_bits()), flags)?)
    }

    /// Tells no more. For descriptors of which others hold duplicates.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        epoll::delete(&self.epoll, fd).ok();
    }

    /// Waits, at most `patience`, and hands over what happened.
    pub(crate) fn wait(
        &self,
        patience: Option<Duration>,
        mut each: impl FnMut(Event),
    ) -> io::Result<()> {
        let mut timeout = patience.map(timespec);
        if patience.is_some_and(|patience| !patience.is_zero() && patience < Duration::from_secs(1))
        {
            // epoll's own timeout is in milliseconds. A poll of the epoll descriptor is exact.
            let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => timeout = Some(timespec(Duration::ZERO)),
                Err(errno) => return Err(errno.into()),
            }
        }
        let mut room = [MaybeUninit::<epoll::Event>::uninit(); MOST_EVENTS];
        let events = match epoll::wait(&self.epoll, room.as_mut_slice(), timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for event in events {
            let data = event.data;
            if let Some(token) = Token::from_bits(data.u64()) {
                each(Event { token, flags: event.flags });
            }
        }
        Ok(())
    }
}

impl Token {
    fn to_bits(self) -> u64 {
        match self {
            Self::Mail => 0,
            Self::RxKick => 1,
            Self::TxKick => 2,
            Self::Server(number) => 1 << 60 | u64::from(number),
            Self::Client(number) => 2 << 60 | u64::from(number),
            Self::Connection(id) => 3 << 60 | id.to_bits(),
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let low = bits & ((1 << 60) - 1);
        Some(match (bits >> 60, low) {
            (0, 0) => Self::Mail,
            (0, 1) => Self::RxKick,
            (0, 2) => Self::TxKick,
            (1, low) => Self::Server(u32::try_from(low).ok()?),
            (2, low) => Self::Client(u32::try_from(low).ok()?),
            (3, low) => Self::Connection(ConnectionId::from_bits(low)),
            _ => return None,
        })
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
