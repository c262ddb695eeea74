//! Precopy of one channel, whatever the stream was before.

use std::io::Write;

use vmstream_qemu::{
    BlockHead, Body, Composer, Opening, SectionHead, SectionKind, Structure, encode,
};

use crate::error::Error;
use crate::op::Op;

/// Writes pages as they come, and the sections of devices when all have come.
pub(crate) struct Precopy<W: Write> {
    out: Option<W>,
    composer: Option<Composer<W>>,
    configuration: Option<Structure>,
    blocks: Vec<BlockHead>,
    page_bytes: u64,
    zeros: Vec<u8>,
    footers: bool,
    memory_id: u32,
    sections: Vec<(SectionHead, Vec<u8>)>,
    description: Vec<u8>,
}

impl<W: Write> Precopy<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out: Some(out),
            composer: None,
            configuration: None,
            blocks: Vec::new(),
            page_bytes: 4096,
            zeros: vec![0; 4096],
            footers: false,
            memory_id: 1,
            sections: Vec::new(),
            description: Vec::new(),
        }
    }

    pub(crate) fn manifest(&mut self, blocks: Vec<BlockHead>, page_bytes: u64) {
        self.blocks = blocks;
        self.page_bytes = page_bytes;
        self.zeros = vec![0; usize::try_from(page_bytes).unwrap_or(4096)];
    }

    pub(crate) const fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    pub(crate) fn step(&mut self, op: Op) -> Result<(), Error> {
        match op {
            Op::Configuration(layout, values) => {
                let structure = crate::back::structure(&layout, values.as_map());
                let misfit = |misfit| Error::Misfit { device: "configuration".into(), misfit };
                self.configuration = Some(structure.map_err(misfit)?);
            }
            Op::Section(head) if &*head.name == "ram" => self.memory_id = head.section_id,
            Op::Section(head) if head.kind == SectionKind::Full => {
                self.sections.push((head, Vec::new()));
            }
            // The first footer of a file that can be mapped stands behind its pages; QEMUs that write one write footers.
            Op::Footer(_) | Op::Elsewhere => self.footers = true,
            Op::Description(json) => self.description.extend(json),
            // Parts of what goes on while the guest runs belong to the stream as it was, and so do commands.
            Op::Header
            | Op::Section(_)
            | Op::Total(_)
            | Op::Block(_)
            | Op::RamEnd
            | Op::Flush
            | Op::Command(..)
            | Op::PackageEnd
            | Op::End
            | Op::Trailing(_)
            | Op::Body(_)
            | Op::Layout(_)
            | Op::Device(..)
            | Op::Odd(_)
            | Op::Rewritten => {}
        }
        Ok(())
    }

    pub(crate) fn body(&mut self, structure: &Structure) -> Result<(), Error> {
        let bytes = encode(structure).map_err(vmstream_qemu::WriteError::from)?;
        let section = self.sections.last_mut();
        section.ok_or_else(|| Error::notes("a body has no section"))?.1.extend(bytes);
        Ok(())
    }

    pub(crate) fn page(&mut self, block: u32, page: u64, data: Option<&[u8]>) -> Result<(), Error> {
        self.open()?;
        let offset = page.saturating_mul(self.page_bytes);
        let data = data.unwrap_or(&self.zeros);
        match &mut self.composer {
            Some(composer) => Ok(composer.page(block, offset, data)?),
            None => Ok(()),
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        let Some(out) = self.out.take() else { return Ok(()) };
        let opening = Opening {
            configuration: self.configuration.as_ref(),
            footers: self.footers,
            blocks: &self.blocks,
            ram_section_id: self.memory_id,
        };
        self.composer = Some(Composer::new(out, &opening)?);
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.open()?;
        let Some(mut composer) = self.composer.take() else { return Ok(()) };
        for (head, bytes) in &self.sections {
            composer.device(head, Body::Bytes(bytes))?;
        }
        let description = Some(&*self.description).filter(|json| !json.is_empty());
        self.out = Some(composer.finish(description)?);
        Ok(())
    }

    pub(crate) fn into_inner(self) -> Result<W, Error> {
        self.out.ok_or_else(|| Error::notes("it has no end"))
    }
}
