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

/// Pages that wait, of all channels and of one.
const WAITING: usize = 512;
const WAITING_EACH: usize = 64;

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
        let waiting = (WAITING / files.len()).clamp(1, WAITING_EACH);
        let open = |file: &Arc<File>| {
            let (sender, said) = sync_channel(waiting);
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

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    /// A channel whose packets have no page (a round ends), or one of one byte at an offset.
    fn channel(number: u8, first: u64, packets: &[Option<(u64, u8)>]) -> Arc<File> {
        let mut out = [0x1122_3344_u32.to_be_bytes(), 1_u32.to_be_bytes()].concat();
        out.extend([7; 16]);
        out.push(number);
        out.extend([0; 39]);
        for (nth, packet) in (first..).zip(packets) {
            let (pages, bytes) = if packet.is_some() { (1, 4096) } else { (0, 0) };
            let head = [0x1122_3344_u32, 1, 1 - pages, 1, pages, bytes];
            out.extend(head.map(u32::to_be_bytes).concat());
            out.extend(nth.to_be_bytes());
            out.extend([0; 4 + 28]);
            out.extend(b"mem");
            out.extend([0; 253]);
            let (offset, byte) = packet.unwrap_or_default();
            out.extend(offset.to_be_bytes());
            out.resize(out.len() + bytes as usize, byte);
        }
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&out).expect("written");
        file.rewind().expect("a file has a beginning");
        Arc::new(file)
    }

    fn bytes(channels: &mut Channels, round: u32) -> Vec<u8> {
        let next = || channels.next(round).expect("valid");
        std::iter::from_fn(next).map(|sent| sent.data.map_or(0, |data| data[0])).collect()
    }

    #[test]
    fn a_page_of_a_later_round_waits_for_all_of_the_earlier_ones() {
        let one = channel(0, 0, &[Some((0, 1)), None, Some((4096, 4)), None]);
        let two = channel(1, 4, &[Some((4096, 2)), Some((8192, 3)), None, None]);
        let channels = Channels::new(&[one, two], 4096).expect("threads");
        let mut channels = channels.expect("there are two");

        assert_eq!(bytes(&mut channels, 0), [1, 2, 3]);
        assert_eq!(bytes(&mut channels, 1), [4]);
        assert_eq!(bytes(&mut channels, u32::MAX), [0_u8; 0]);
        channels.expect_whole().expect("nothing is missing");
    }

    #[test]
    fn a_channel_with_fewer_rounds_is_refused() {
        let one = channel(0, 0, &[None, None]);
        let two = channel(1, 2, &[None]);
        let channels = Channels::new(&[one, two], 4096).expect("threads");
        let mut channels = channels.expect("there are two");
        assert_eq!(bytes(&mut channels, u32::MAX), [0_u8; 0]);

        let told = channels.expect_whole().expect_err("refused").to_string();
        assert!(told.ends_with("one ends before the others"), "{told}");
    }
}
