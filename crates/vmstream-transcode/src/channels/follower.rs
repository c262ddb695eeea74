//! A thread that reads one channel.

use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender};

use vmstream_qemu::{ChannelEvent, ChannelPage, read_channel_within};

use crate::channels::{Packets, Said, Sent};

/// Reads a channel and says what is in it, as long as anybody listens.
pub(super) struct Follower {
    to: SyncSender<Said>,
    turns: Receiver<()>,
    packets: Packets,
    /// Rounds that are over in the channel, and which its turn was for.
    rounds: u32,
    turn: u32,
    /// Pages of packets that have not come out yet.
    owed: u64,
}

impl Follower {
    pub(super) fn new(to: SyncSender<Said>, turns: Receiver<()>) -> Self {
        Self { to, turns, packets: Packets::default(), rounds: 0, turn: 0, owed: 0 }
    }

    pub(super) fn follow(mut self, file: &mut dyn io::Read, page_bytes: u32, room: u64) {
        if self.turns.recv().is_err() {
            return;
        }
        let mut take = |_: Range<u64>, event: &ChannelEvent<'_>| self.take(event);
        let read = read_channel_within(file, page_bytes, room, &mut take);
        // Whoever has stopped listening needs to know no more.
        drop(self.to.send(match read {
            Ok(()) => Said::Over { rounds: self.rounds, packets: self.packets },
            Err(error) => Said::Failed(error),
        }));
    }

    fn take(&mut self, event: &ChannelEvent<'_>) -> io::Result<()> {
        match event {
            ChannelEvent::Opening { channel, uuid } => {
                self.say(Said::Opening { uuid: *uuid, channel: *channel })
            }
            ChannelEvent::Packet(head) if head.instance_id.is_some() => self.say(Said::Devices),
            ChannelEvent::Packet(head) => {
                self.rest()?;
                self.packets = self.packets.and(Packets { count: 1, highest: head.number });
                self.rounds = self.rounds.saturating_add(u32::from(head.synchronises()));
                let pages = u64::from(head.normal_pages).saturating_add(head.zero_pages.into());
                self.owed = self.owed.saturating_add(pages);
                Ok(())
            }
            ChannelEvent::Page(page, data) => self.page(sent(*page, Some(data))),
            ChannelEvent::Zero(page) => self.page(sent(*page, None)),
            ChannelEvent::Payload(_) | _ => Ok(()),
        }
    }

    /// Waits for its turn if a packet is the first of a round, and all pages before it have come out.
    fn rest(&mut self) -> io::Result<()> {
        if self.rounds == self.turn || self.owed > 0 {
            return Ok(());
        }
        self.turn = self.rounds;
        self.say(Said::Rests { round: self.rounds })?;
        self.turns.recv().map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn page(&mut self, page: Sent) -> io::Result<()> {
        self.owed = self.owed.saturating_sub(1);
        self.say(Said::Page(page))
    }

    fn say(&self, said: Said) -> io::Result<()> {
        self.to.send(said).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn sent(page: ChannelPage<'_>, data: Option<&[u8]>) -> Sent {
    let ChannelPage { round, block, offset } = page;
    Sent { round, block: block.into(), offset, data: data.map(<[u8]>::to_vec) }
}
