//! Memory and state from anywhere, as the one stream that every QEMU loads: precopy, one channel.

use std::io::Write;

use crate::element::{BlockHead, Event, Page, RamRecord, SectionHead, SectionKind};
use crate::input::len64;
use crate::tree::{Structure, Value};
use crate::writer::{WriteError, Writer};

/// What a stream begins with.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// The configuration, as it was read; `None` for machine types that write none.
    pub configuration: Option<&'a Structure>,
    /// Whether sections end with a footer.
    pub footers: bool,
    /// The blocks of memory, in order.
    pub blocks: &'a [BlockHead],
    /// The number of section `ram`.
    pub ram_section_id: u32,
}

/// Writes a stream: first pages in any order, then the sections of devices in QEMU's.
#[derive(Debug)]
pub struct Composer<W> {
    writer: Writer<W>,
    footers: bool,
    ram: SectionHead,
    /// The block of the last page.
    block: Option<u32>,
    pages_over: bool,
}

/// The body of a device's section.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Taken apart.
    Fields(&'a Structure),
    /// As it stood.
    Bytes(&'a [u8]),
}

impl<W: Write> Composer<W> {
    /// Writes the beginning, up to where pages go.
    ///
    /// # Errors
    ///
    /// When `out` fails, or a name is longer than the format has room for.
    pub fn new(out: W, opening: &Opening<'_>) -> Result<Self, WriteError> {
        let mut writer = Writer::new(out);
        writer.event(&Event::Header)?;
        if let Some(configuration) = opening.configuration {
            writer.event(&Event::Configuration(&of_one_channel(configuration)))?;
        }
        let ram = SectionHead {
            kind: SectionKind::Start,
            section_id: opening.ram_section_id,
            name: "ram".into(),
            instance_id: 0,
            version: 4,
        };
        let footers = opening.footers;
        let mut composer = Self { writer, footers, ram, block: None, pages_over: false };
        composer.begin(SectionKind::Start)?;
        let bytes = opening.blocks.iter().fold(0u64, |sum, block| sum.saturating_add(block.bytes));
        composer.writer.event(&Event::Ram(RamRecord::Total { bytes }))?;
        for block in opening.blocks {
            let block = BlockHead { mapped: None, page_bytes: None, ..block.clone() };
            composer.writer.event(&Event::Ram(RamRecord::Block(&block)))?;
        }
        composer.end()?;
        composer.begin(SectionKind::Part)?;
        Ok(composer)
    }

    /// Writes a page. A later one of the same place replaces it.
    ///
    /// # Errors
    ///
    /// When `out` fails, or there is no such block.
    pub fn page(&mut self, block: u32, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        let named = self.block != Some(block);
        self.block = Some(block);
        let page = Page { block, offset, named };
        let record = if data.iter().all(|byte| *byte == 0) {
            RamRecord::Fill { page, byte: 0 }
        } else {
            RamRecord::Data { page, data }
        };
        self.writer.event(&Event::Ram(record))
    }

    /// Writes the section of a device. No page can follow.
    ///
    /// # Errors
    ///
    /// When `out` fails, or a value does not fit its place.
    pub fn device(&mut self, head: &SectionHead, body: Body<'_>) -> Result<(), WriteError> {
        self.end_pages()?;
        self.writer.event(&Event::Section(head))?;
        self.writer.event(&match body {
            Body::Fields(structure) => Event::Device(structure),
            Body::Bytes(bytes) => Event::Opaque(bytes),
        })?;
        self.footer(head.section_id)
    }

    /// Writes the end, and behind it QEMU's description where there is one.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn finish(mut self, description: Option<&[u8]>) -> Result<W, WriteError> {
        self.end_pages()?;
        self.writer.event(&Event::End)?;
        if let Some(json) = description {
            self.writer.event(&Event::Description { json })?;
        }
        Ok(self.writer.into_inner())
    }

    fn begin(&mut self, kind: SectionKind) -> Result<(), WriteError> {
        self.ram.kind = kind;
        self.writer.event(&Event::Section(&self.ram))
    }

    fn end(&mut self) -> Result<(), WriteError> {
        self.writer.event(&Event::Ram(RamRecord::End))?;
        self.footer(self.ram.section_id)
    }

    fn footer(&mut self, section_id: u32) -> Result<(), WriteError> {
        if self.footers { self.writer.event(&Event::Footer { section_id }) } else { Ok(()) }
    }

    fn end_pages(&mut self) -> Result<(), WriteError> {
        if !self.pages_over {
            self.pages_over = true;
            self.end()?;
            self.begin(SectionKind::End)?;
            self.end()?;
        }
        Ok(())
    }
}

/// The configuration without what only a file that can be mapped has.
fn of_one_channel(configuration: &Structure) -> Structure {
    let mut changed = configuration.clone();
    for sub in &mut changed.subsections {
        let is_mapped = |value: &Value| {
            let name = value.as_structure().and_then(|inner| inner.field("name"));
            name.and_then(|name| name.value.as_bytes()) == Some(b"mapped-ram")
        };
        sub.fields.retain(|field| !is_mapped(&field.value));
        let left = len64(sub.fields.len()).saturating_sub(1);
        if let Some(count) = sub.find_mut("caps_count") {
            *count = Value::Unsigned(left);
        }
    }
    let empty = |sub: &Structure| sub.name == "configuration/capabilities" && sub.fields.len() < 2;
    changed.subsections.retain(|sub| !empty(sub));
    changed
}
