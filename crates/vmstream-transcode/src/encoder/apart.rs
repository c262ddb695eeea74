//! Pages that did not come as they are, or not in the main channel.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use vmstream_qemu::{BlockHead, Page, Reader, SectionKind};

use super::Encoder;
use crate::channels::{Channels, Sent};
use crate::earlier::{Earlier, Room};
use crate::error::Error;
use crate::op::Op;
use crate::to::{Content, Options};

/// Where such pages are.
#[derive(Debug)]
pub(super) struct Apart {
    reader: Reader,
    earlier: Earlier,
    /// Pages as they were sent, where differences need them.
    pub(super) room: Option<Room>,
    files: Vec<Arc<File>>,
    channels: Option<Channels>,
    /// Rounds of the channels that are over, and whether flushes say so.
    rounds: u32,
    flushes: bool,
    /// Whether it has been said that only precopy can be made of it.
    rewritten: bool,
}

impl Apart {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            reader: options.reader.clone(),
            earlier: options.earlier.clone(),
            room: None,
            files: options.channels.clone(),
            channels: None,
            rounds: 0,
            flushes: false,
            rewritten: false,
        }
    }

    /// Begins to keep pages and to read channels, when memory is known.
    pub(super) fn begin(&mut self, blocks: &[BlockHead], page_bytes: u64) -> Result<(), Error> {
        if let Earlier::Kept(file) = &self.earlier {
            self.room = Some(Room::new(Arc::clone(file), blocks, page_bytes));
        }
        self.channels = Channels::new(&self.files, page_bytes)?;
        Ok(())
    }
}

impl<W: Write> Encoder<W> {
    /// A page of which only what has changed came: written in full.
    pub(super) fn difference(&mut self, page: &Page, difference: &[u8]) -> Result<(), Error> {
        if self.content == Content::State {
            return Ok(());
        }
        let number = page.offset.checked_div(self.page_bytes).unwrap_or(0);
        let at = (page.block, number);
        if self.apart.room.is_none() {
            let Earlier::Again(stream) = &self.apart.earlier else { return Err(Error::Difference) };
            let (blocks, bytes) = (&self.blocks, self.page_bytes);
            let room = Room::caught_up(stream, &self.apart.reader, blocks, bytes, self.at)?;
            self.apart.room = Some(room);
        }
        let data = match &self.apart.room {
            Some(room) => room.changed(at, difference, self.at)?,
            None => return Err(Error::Difference),
        };
        self.rewritten()?;
        self.page_record(page, Some(&data))
    }

    /// Says once that QEMU's stream does not come back to the same bytes.
    fn rewritten(&mut self) -> Result<(), Error> {
        if self.apart.rewritten {
            return Ok(());
        }
        self.apart.rewritten = true;
        self.op(Op::Rewritten)
    }

    /// The main channel says that the pages of a round are complete.
    pub(super) fn flush_of_channels(&mut self) -> Result<(), Error> {
        self.apart.flushes = true;
        self.manifest()?;
        if self.content == Content::State {
            return Ok(());
        }
        if self.apart.channels.is_none() {
            return Err(Error::Set { what: "this is the main one, and no other was given".into() });
        }
        self.end_round()
    }

    /// The end of a section of memory: machine types that write no flush mean one by it, and behind the last nothing comes.
    pub(super) fn end_of_memory(&mut self) -> Result<(), Error> {
        if !self.apart.flushes {
            self.end_round()?;
        }
        let last = self.section.as_ref().is_some_and(|head| head.kind == SectionKind::End);
        if last { self.end_channels() } else { Ok(()) }
    }

    fn end_round(&mut self) -> Result<(), Error> {
        let round = self.apart.rounds;
        self.apart.rounds = round.saturating_add(1);
        self.pages_up_to(round)
    }

    /// All that the channels still have, which must be whole.
    pub(super) fn end_channels(&mut self) -> Result<(), Error> {
        self.pages_up_to(u32::MAX)?;
        self.apart.channels.take().map_or(Ok(()), |channels| channels.expect_whole())
    }

    fn pages_up_to(&mut self, round: u32) -> Result<(), Error> {
        if self.apart.channels.is_none() {
            return Ok(());
        }
        self.rewritten()?;
        while let Some(channels) = &mut self.apart.channels
            && let Some(sent) = channels.next(round)?
        {
            self.sent(&sent)?;
        }
        Ok(())
    }

    fn sent(&mut self, sent: &Sent) -> Result<(), Error> {
        let Sent { block: name, offset, data, .. } = sent;
        let at = self.blocks.iter().position(|block| block.name == *name);
        let block = at.and_then(|at| self.blocks.get(at));
        let end = offset.checked_add(self.page_bytes);
        if block.is_none_or(|block| end.is_none_or(|end| end > block.bytes)) {
            let what = format!("the machine has no byte {offset} of memory {name}");
            return Err(Error::Set { what });
        }
        let block = at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX);
        let page = (block, offset.checked_div(self.page_bytes).unwrap_or(0));
        let named = self.gather.names(block);
        self.page(page, data.as_deref(), named)
    }
}
