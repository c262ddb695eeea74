//! The further channels of a multifd set, beside the main one.
//!
//! Pages of a round are complete when the main channel says so; of a later round's, one replaces that of an earlier. A thread reads each
//! channel and hands on its pages, some at a time, so that no more than these are held.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use vmstream_qemu::{ChannelEvent, ChannelPage, ReadError, read_channel};

use crate::error::Error;

/// Pages of one channel that wait.
const WAITING: usize = 256;

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
    Opening { uuid: [u8; 16], channel: u8 },
    Over { rounds: u32, packets: Packets },
    Failed(ReadError),
    Devices,
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
        let page_bytes = u32::try_from(page_bytes).unwrap_or(4096);
        let open = |file: &Arc<File>| {
            let (sender, said) = sync_channel(WAITING);
            let file = Arc::clone(file);
            let thread = thread::Builder::new().name("qemu-channel".to_owned());
            thread.spawn(move || follow(&mut &*file, page_bytes, &sender))?;
            Ok(Channel { said, next: None, over: false })
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
        let said = match channel.next.take() {
            Some(page) => Said::Page(page),
            // A thread that is gone without a word has panicked.
            None => channel.said.recv().map_err(|_| lost())?,
        };
        if let Said::Page(page) = said {
            if page.round <= round {
                return Ok(Some(Said::Page(page)));
            }
            channel.next = Some(page);
            return Ok(None);
        }
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

/// Reads a channel and says what is in it, as long as anybody listens.
fn follow(file: &mut dyn io::Read, page_bytes: u32, to: &SyncSender<Said>) {
    let (mut rounds, mut packets) = (0_u32, Packets::default());
    let read = read_channel(file, page_bytes, &mut |_: Range<u64>, event: &ChannelEvent<'_>| {
        let said = match event {
            ChannelEvent::Opening { channel, uuid } => {
                Said::Opening { uuid: *uuid, channel: *channel }
            }
            ChannelEvent::Packet(head) if head.instance_id.is_some() => Said::Devices,
            ChannelEvent::Packet(head) => {
                packets = packets.and(Packets { count: 1, highest: head.number });
                rounds = rounds.saturating_add(u32::from(head.synchronises()));
                return Ok(());
            }
            ChannelEvent::Page(page, data) => Said::Page(sent(*page, Some(data))),
            ChannelEvent::Zero(page) => Said::Page(sent(*page, None)),
            ChannelEvent::Payload(_) | _ => return Ok(()),
        };
        to.send(said).map_err(|_| io::ErrorKind::BrokenPipe.into())
    });
    // Whoever has stopped listening needs to know no more.
    drop(to.send(match read {
        Ok(()) => Said::Over { rounds, packets },
        Err(error) => Said::Failed(error),
    }));
}

fn sent(page: ChannelPage<'_>, data: Option<&[u8]>) -> Sent {
    let ChannelPage { round, block, offset } = page;
    Sent { round, block: block.into(), offset, data: data.map(<[u8]>::to_vec) }
}
