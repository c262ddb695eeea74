//! One pass over a stream that checks and collects what every test asks for.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;

use vmstream_qemu::{
    BlockHead, Body, Composer, Event, Opening, RamRecord, ReadError, Reader, SectionHead, Share,
    Sink, Structure, Writer, apply_xbzrle, share,
};

/// What a stream held.
#[derive(Default)]
pub(crate) struct Contents {
    /// Every byte before this belongs to exactly one event.
    pub(crate) end: u64,
    pub(crate) devices: Vec<(SectionHead, Structure)>,
    pub(crate) opaque: Vec<(SectionHead, Vec<u8>)>,
    pub(crate) configuration: Option<Structure>,
    pub(crate) heads: Vec<BlockHead>,
    pub(crate) share: Share,
    pub(crate) commands: Vec<u16>,
    pub(crate) description: Option<Vec<u8>>,
    pub(crate) blocks: Vec<(String, Vec<u8>)>,
    pub(crate) records: BTreeMap<&'static str, u64>,
    pub(crate) written: Vec<u8>,
    pub(crate) keep_memory: bool,
    pub(crate) trailing: usize,
    current: Option<SectionHead>,
}

impl Contents {
    pub(crate) fn of(reader: &Reader, source: &mut dyn Read) -> Result<Self, ReadError> {
        Self::read(reader, source, true)
    }

    pub(crate) fn read(
        reader: &Reader,
        source: &mut dyn Read,
        keep_memory: bool,
    ) -> Result<Self, ReadError> {
        let mut contents = Self { keep_memory, ..Self::default() };
        reader.read(source, &mut contents)?;
        Ok(contents)
    }

    /// All of it as one precopy stream of one channel, with this memory.
    pub(crate) fn composed(&self, memory: &[(String, Vec<u8>)]) -> Vec<u8> {
        let opening = Opening {
            configuration: self.configuration.as_ref(),
            footers: true,
            blocks: &self.heads,
            ram_section_id: 2,
        };
        let mut composer = Composer::new(Vec::new(), &opening).expect("it fits");
        for (number, (_, bytes)) in (0..).zip(memory) {
            for (page, data) in (0..).zip(bytes.chunks(4096)) {
                composer.page(number, page * 4096, data).expect("it fits");
            }
        }
        let devices = self.devices.iter().map(|(head, body)| (head, Body::Fields(body)));
        let opaque = self.opaque.iter().map(|(head, bytes)| (head, Body::Bytes(bytes)));
        let mut sections: Vec<_> = devices.chain(opaque).collect();
        sections.sort_by_key(|(head, _)| head.section_id);
        for (head, body) in sections {
            composer.device(head, body).expect("it fits");
        }
        composer.finish(self.description.as_deref()).expect("it fits")
    }

    fn count(&mut self, what: &'static str) {
        *self.records.entry(what).or_default() += 1;
    }

    fn store(&mut self, block: u32, offset: u64, data: &[u8]) {
        if self.keep_memory {
            let offset = usize::try_from(offset).expect("an offset fits");
            let block = usize::try_from(block).expect("a block fits");
            self.blocks[block].1[offset..offset + data.len()].copy_from_slice(data);
        }
    }

    fn ram(&mut self, record: &RamRecord<'_>) {
        match record {
            RamRecord::Block(head) => {
                let bytes = if self.keep_memory { head.bytes } else { 0 };
                let bytes = usize::try_from(bytes).expect("a block fits");
                self.heads.push((*head).clone());
                self.blocks.push((head.name.to_string(), vec![0; bytes]));
            }
            RamRecord::Fill { page, byte } => {
                self.store(page.block, page.offset, &[*byte; 4096]);
                self.count("fill");
            }
            RamRecord::Data { page, data } => {
                self.store(page.block, page.offset, data);
                self.count("data");
            }
            RamRecord::MappedPages { block, offset, data } => self.store(*block, *offset, data),
            RamRecord::MappedZeros { .. } => self.count("hole"),
            RamRecord::Xbzrle { page, encoding: _, data } => {
                let block = usize::try_from(page.block).expect("a block fits");
                let offset = usize::try_from(page.offset).expect("an offset fits");
                if self.keep_memory {
                    let old = &mut self.blocks[block].1[offset..offset + 4096];
                    apply_xbzrle(old, data).expect("a valid difference");
                }
                self.count("xbzrle");
            }
            RamRecord::MultifdFlush => self.count("flush"),
            RamRecord::End => self.count("end"),
            _ => {}
        }
    }
}

impl Sink for Contents {
    fn event(&mut self, range: Range<u64>, event: &Event<'_>) -> io::Result<()> {
        assert_eq!(range.start, self.end, "{event:?} begins where the one before it ended");
        self.end = range.end;
        if self.keep_memory {
            let mut writer = Writer::resume(
                std::mem::take(&mut self.written),
                self.blocks.iter().map(|(name, _)| name.as_str()),
            );
            writer.event(event).expect("what was read can be written");
            self.written = writer.into_inner();
            assert_eq!(self.written.len() as u64, self.end, "{event:?} is written as long as read");
        }
        match event {
            Event::Configuration(configuration) => {
                self.configuration = Some((*configuration).clone());
            }
            Event::Section(head) => self.current = Some((*head).clone()),
            Event::Device(structure) => {
                self.share += share(structure);
                let head = self.current.clone().expect("a section began");
                self.devices.push((head, (*structure).clone()));
            }
            Event::Opaque(bytes) => {
                self.share.opaque += bytes.len() as u64;
                let head = self.current.clone().expect("a section began");
                self.opaque.push((head, bytes.to_vec()));
            }
            Event::Ram(record) => self.ram(record),
            Event::Command(command) => self.commands.push(command.number),
            Event::Description { json } => self.description = Some(json.to_vec()),
            Event::Trailing(bytes) => self.trailing += bytes.len(),
            _ => {}
        }
        Ok(())
    }
}

/// Gives its bytes one at a time.
pub(crate) struct Trickle<'a>(pub(crate) &'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, mut buf: &mut [u8]) -> io::Result<usize> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
        self.0 = rest;
        buf.write(&[*first])
    }
}
