//! The further channels of a multifd set, beside the main one.
//!
//! Pages of a round are complete when the main channel says so; of a later round's, one replaces that of an earlier. A thread reads each
//! channel and hands on its pages, some at a time, so that no more than these are held. Where a round ends it waits for its turn: but
//! for what zstd keeps back, no more than one channel has a packet in memory, however many there are.

mod follower;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use vmstream_qemu::ReadError;

use crate::channels::follower::Follower;
use crate::error::Error;

/// Channels that QEMU has at most.
const MOST: usize = 255;
/// Bytes of pages that wait, of those channels that may have any; and pages of one.
const WAITING: usize = 2 << 20;
const WAITING_EACH: usize = 64;
/// Channels that zstd leaves with something to hold: of more than these, none has room for a window.
const WITH_WINDOWS: usize = 16;
/// Bytes that compression may take, of all channels.
const ROOM: u64 = 24 << 20;

/// A page of a channel; zero if it has no data.
#[derive(Debug)]
pub(crate) struct Sent {
    round: u32,
    pub(crate) block: Box<str>,
    pub(crate) offset: u64,
    pub(crate) data: Option<Vec<u8>>,
}

/// What a thread says of its channel.
enum Said {
    Page(Sent),
    Opening {
        uuid: [u8; 16],
        channel: u8,
    },
    Over {
        rounds: u32,
        packets: Packets,
    },
    Failed(ReadError),
    Devices,
    /// All pages of the rounds before this one have been said, and the thread waits for its turn.
    Rests {
        round: u32,
    },
}

/// Numbers of packets, which all channels together count. QEMU 7.2 gives one that ends a round the number of the one before, now and then, and
/// leaves the next out: how many there are is right all the same.
#[derive(Clone, Copy, Debug, Default)]
struct Packets {
    count: u64,
    highest: u64,
}

#[derive(Debug)]
struct Channel {
    said: Receiver<Said>,
    turn: Sender<()>,
    /// Since which round the thread has been waiting for its turn.
    rests: Option<u32>,
    /// A page of a later round.
    next: Option<Sent>,
    over: bool,
}

/// All channels but the main one.
#[derive(Debug)]
pub(crate) struct Channels {
    all: Vec<Channel>,
    uuid: Option<[u8; 16]>,
    numbers: Vec<u8>,
    rounds: Vec<u32>,
    packets: Packets,
}

impl Channels {
    /// Begins to read; nothing if there are no channels.
    pub(crate) fn new(files: &[Arc<File>], page_bytes: u64) -> Result<Option<Self>, Error> {
        if files.is_empty() {
            return Ok(None);
        }
        if files.len() > MOST {
            let what = format!("{} further channels were given, and QEMU has {MOST}", files.len());
            return Err(Error::Set { what });
        }
        let page_bytes = u32::try_from(page_bytes).unwrap_or(4096);
        let length = usize::try_from(page_bytes).unwrap_or(4096).max(1);
        let waiting = (WAITING / length / files.len().min(WITH_WINDOWS)).clamp(1, WAITING_EACH);
        let room = ROOM / u64::try_from(files.len()).unwrap_or(u64::MAX);
        let open = |file: &Arc<File>| {
            let (sender, said) = sync_channel(waiting);
            let (turn, turns) = channel();
            let file = Arc::clone(file);
            let thread = thread::Builder::new().name("qemu-channel".to_owned());
            let follow = move || Follower::new(sender, turns).follow(&mut &*file, page_bytes, room);
            thread.spawn(follow)?;
            Ok(Channel { said, turn, rests: Some(0), next: None, over: false })
        };
        let all = files.iter().map(open).collect::<Result<_, io::Error>>()?;
        let (numbers, rounds, packets) = (Vec::new(), Vec::new(), Packets::default());
        Ok(Some(Self { all, uuid: None, numbers, rounds, packets }))
    }

    /// The next page of a round or of one before it; nothing if all channels have said theirs.
    pub(crate) fn next(&mut self, round: u32) -> Result<Option<Sent>, Error> {
        for at in 0..self.all.len() {
            while let Some(said) = self.said(at, round)? {
                match said {
                    Said::Page(page) => return Ok(Some(page)),
                    Said::Over { rounds, packets } => {
                        self.rounds.push(rounds);
                        self.packets = self.packets.and(packets);
                    }
                    Said::Opening { uuid, channel } => self.opening(uuid, channel)?,
                    Said::Failed(source) => return Err(Error::Channel { channel: at, source }),
                    // Taken as it came.
                    Said::Rests { .. } => {}
                    Said::Devices => {
                        let why = "its devices send state through channels of their own";
                        return Err(Error::Unsupported { what: "a multifd channel", why });
                    }
                }
            }
        }
        Ok(None)
    }

    /// What a channel says next, up to the end of a round.
    fn said(&mut self, at: usize, round: u32) -> Result<Option<Said>, Error> {
        let Some(channel) = self.all.get_mut(at).filter(|channel| !channel.over) else {
            return Ok(None);
        };
        if let Some(page) = channel.next.take_if(|page| page.round <= round) {
            return Ok(Some(Said::Page(page)));
        }
        if channel.next.is_some() {
            return Ok(None);
        }
        let said = loop {
            if channel.rests.is_some_and(|from| from > round) {
                return Ok(None);
            }
            if channel.rests.take().is_some() {
                channel.turn.send(()).map_err(|_| lost())?;
            }
            // A thread that is gone without a word has panicked.
            match channel.said.recv().map_err(|_| lost())? {
                Said::Rests { round } => channel.rests = Some(round),
                Said::Page(page) if page.round > round => {
                    channel.next = Some(page);
                    return Ok(None);
                }
                said @ (Said::Page(_)
                | Said::Opening { .. }
                | Said::Over { .. }
                | Said::Failed(_)
                | Said::Devices) => break said,
            }
        };
        channel.over = matches!(said, Said::Over { .. });
        Ok(Some(said))
    }

    fn opening(&mut self, uuid: [u8; 16], number: u8) -> Result<(), Error> {
        if self.numbers.contains(&number) {
            return Err(Error::Set { what: format!("channel {number} is there twice") });
        }
        if *self.uuid.get_or_insert(uuid) != uuid {
            return Err(Error::Set { what: format!("channel {number} is of another machine") });
        }
        self.numbers.push(number);
        Ok(())
    }

    /// Makes sure that no channel is missing, when all have been read.
    pub(crate) fn expect_whole(&self) -> Result<(), Error> {
        let missing =
            (0..=u8::MAX).zip(&self.numbers).find(|(want, _)| !self.numbers.contains(want));
        if let Some((number, _)) = missing {
            return Err(Error::Set { what: format!("channel {number} is missing") });
        }
        let rounds = self.rounds.first();
        if self.rounds.iter().any(|each| Some(each) != rounds) {
            return Err(Error::Set { what: "one ends before the others".to_owned() });
        }
        if self.packets.has_gap() {
            return Err(Error::Set { what: "packets are missing".to_owned() });
        }
        Ok(())
    }
}

impl Packets {
    fn and(self, other: Self) -> Self {
        let count = self.count.saturating_add(other.count);
        Self { count, highest: self.highest.max(other.highest) }
    }

    /// Whether there are fewer than have been numbered.
    fn has_gap(self) -> bool {
        self.count < self.highest
    }
}

fn lost() -> Error {
    Error::Io(io::Error::other("a channel's reader is gone"))
}
