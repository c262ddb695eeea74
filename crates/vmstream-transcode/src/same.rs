//! QEMU's stream as it was.

use std::io::Write;

use vmstream_qemu::{Command, Event, Page, RamRecord, SectionKind, Structure, Writer};

use crate::error::Error;
use crate::given::Given;
use crate::op::Op;

/// A page as the notes and a frame have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnePage<'d> {
    pub(crate) page: u64,
    /// Zeros if none.
    pub(crate) data: Option<&'d [u8]>,
    /// Whether how it is named is not as one would expect.
    pub(crate) odd: bool,
    /// Whether it is zero and stood there in full.
    pub(crate) full: bool,
}

/// Writes step by step what the notes say.
pub(crate) struct Same<W> {
    writer: Writer<Given<W>>,
    page_bytes: u64,
    zeros: Vec<u8>,
    /// Whether pages can stand here: in a section of memory.
    in_memory: bool,
    /// The block of the last page.
    last: Option<u32>,
    /// The number of the section that is memory.
    memory_id: Option<u32>,
    /// As far as it has come.
    description: Option<Vec<u8>>,
}

impl<W: Write> Same<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            writer: Writer::new(Given::new(out)),
            page_bytes: 4096,
            zeros: vec![0; 4096],
            in_memory: false,
            last: None,
            memory_id: None,
            description: None,
        }
    }

    pub(crate) fn manifest(&mut self, page_bytes: u64) {
        self.page_bytes = page_bytes;
        self.zeros = vec![0; usize::try_from(page_bytes).unwrap_or(4096)];
    }

    pub(crate) const fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    pub(crate) fn into_inner(self) -> W {
        self.writer.into_inner().into_inner()
    }

    pub(crate) fn step(&mut self, op: Op) -> Result<(), Error> {
        if !matches!(op, Op::Description(_)) {
            self.flush_description()?;
        }
        match op {
            Op::Header => self.event(&Event::Header),
            Op::Configuration(layout, values) => {
                let structure = crate::back::structure(&layout, values.as_map());
                let misfit = |misfit| Error::Misfit { device: "configuration".into(), misfit };
                self.event(&Event::Configuration(&structure.map_err(misfit)?))
            }
            Op::Section(head) => {
                if &*head.name == "ram" {
                    self.memory_id = Some(head.section_id);
                }
                self.in_memory =
                    head.kind != SectionKind::Full && self.memory_id == Some(head.section_id);
                self.event(&Event::Section(&head))
            }
            Op::Total(bytes) => self.event(&Event::Ram(RamRecord::Total { bytes })),
            Op::Block(head) => self.event(&Event::Ram(RamRecord::Block(&head))),
            Op::RamEnd => {
                self.in_memory = false;
                self.event(&Event::Ram(RamRecord::End))
            }
            Op::Flush => self.event(&Event::Ram(RamRecord::MultifdFlush)),
            Op::Footer(section_id) => self.event(&Event::Footer { section_id }),
            Op::Command(number, data) => {
                self.event(&Event::Command(Command { number, data: &data }))
            }
            Op::PackageEnd => self.event(&Event::PackageEnd),
            Op::End => self.event(&Event::End),
            Op::Description(json) => {
                self.description.get_or_insert_default().extend(json);
                Ok(())
            }
            Op::Trailing(bytes) => self.event(&Event::Trailing(&bytes)),
            Op::Body(bytes) => self.event(&Event::Opaque(&bytes)),
            Op::Elsewhere => Err(Error::moved("it came from a file that can be mapped")),
            Op::Rewritten => {
                Err(Error::moved("pages were differences, or came through other channels"))
            }
            // These are no bytes of their own.
            Op::Layout(_) | Op::Device(..) | Op::Odd(_) => Ok(()),
        }
    }

    /// Hands on bytes of steps that follow.
    pub(crate) fn ahead(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.get_mut().give(bytes)
    }

    pub(crate) fn body(&mut self, structure: &Structure) -> Result<(), Error> {
        self.event(&Event::Device(structure))
    }

    /// Writes pages of one block.
    pub(crate) fn pages(&mut self, block: u32, pages: &[OnePage<'_>]) -> Result<(), Error> {
        if !self.in_memory {
            return Err(Error::moved("pages stand where no section of memory is"));
        }
        let (zeros, mut last) = (&*self.zeros, self.last);
        let pages: Vec<_> = pages
            .iter()
            .map(|&OnePage { page, data, odd, full }| {
                let named = (last != Some(block)) != odd;
                last = Some(block);
                let page = Page { block, offset: page.saturating_mul(self.page_bytes), named };
                (page, data.or(full.then_some(zeros)))
            })
            .collect();
        self.last = last;
        Ok(self.writer.pages(&pages)?)
    }

    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.flush_description()?;
        self.writer.get_mut().expect_written()
    }

    /// Hands on all that has been written: the other end of a connection waits for it.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        Ok(self.writer.flush()?)
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), Error> {
        Ok(self.writer.event(event)?)
    }

    fn flush_description(&mut self) -> Result<(), Error> {
        let Some(json) = self.description.take() else { return Ok(()) };
        self.event(&Event::Description { json: &json })
    }
}
