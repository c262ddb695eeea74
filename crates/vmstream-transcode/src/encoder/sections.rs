//! What stands around memory: the configuration, devices, and the moment when the machine has stopped.

use std::io::Write;

use vmstream::Value as Ours;
use vmstream::contract::{Attribute, Policy};
use vmstream::message::{DeviceRecord, Switch, SwitchMode};
use vmstream::writer::Finality;
use vmstream_qemu::{SectionHead, SectionKind, Structure, agreed_capabilities, machine};

use super::Encoder;
use crate::device::{Devices, Part};
use crate::error::Error;
use crate::groups::{groups, weight};
use crate::layout::Layout;
use crate::op::Op;
use crate::state;
use crate::to::Content;

/// Records whose schemas somebody who waits is given at once.
const SCHEMAS: usize = 8;

impl<W: Write> Encoder<W> {
    pub(super) fn configuration(&mut self, configuration: &Structure) -> Result<(), Error> {
        let bits = configuration.find("target-page-bits/target_page_bits");
        if let Some(bits) = bits.and_then(|(_, value)| value.as_unsigned()) {
            self.page_bytes = 1u64.checked_shl(u32::try_from(bits).unwrap_or(64)).unwrap_or(4096);
            self.gather.set_page_bytes(usize::try_from(self.page_bytes).unwrap_or(4096));
        }
        let (exact, named) = (Policy::Exact, "machine");
        let is_known = self.machine.iter().any(|known| known.name() == "machine#type");
        let name = machine(configuration).filter(|_| !is_known);
        self.machine.extend(
            name.map(|name| {
                Attribute::new(named, "type", name.trim_end_matches("-machine"), exact)
            }),
        );
        let capabilities: Vec<_> = agreed_capabilities(configuration).map(Ours::from).collect();
        let mapped = capabilities.contains(&Ours::from("mapped-ram"));
        if !capabilities.is_empty() {
            let policy = Policy::Informational;
            self.machine.push(Attribute::new("migration", "capabilities", capabilities, policy));
        }
        let unknown = || Error::Unsupported { what: "the configuration", why: "it is not known" };
        let layout = Layout::of(configuration).ok_or_else(unknown)?;
        let (_, values) = state::record(configuration).ok_or_else(unknown)?;
        self.op(Op::Configuration(layout, Ours::Map(values)))?;
        if mapped { self.op(Op::Elsewhere) } else { Ok(()) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.section.as_ref().is_some_and(|head| head.kind == SectionKind::Full)
    }

    pub(super) fn begin(&mut self, head: &SectionHead) -> Result<(), Error> {
        self.flush_pages()?;
        if &*head.name == "ram" {
            // What follows a package are pages that the devices do not wait for.
            self.flush_devices()?;
            if self.described && !self.switched && head.kind != SectionKind::Start {
                self.writer.next_epoch();
            }
        }
        self.section = Some(head.clone());
        self.op(Op::Section(head.clone()))
    }

    /// The body of a section that is a device's: records of it, to be written with the others of its group.
    pub(super) fn device(
        &mut self,
        records: impl FnOnce(&mut Devices, &SectionHead) -> Vec<Part>,
    ) -> Result<(), Error> {
        let what = "a body without a section";
        let head = self.section.clone();
        let head = head.ok_or(Error::Unsupported { what, why: "it is nobody's" })?;
        for part in records(&mut self.devices, &head) {
            if self.content == Content::State {
                self.pending.push(part);
                continue;
            }
            let known = self.layouts.iter().position(|layout| *layout == part.layout);
            let number = known.unwrap_or(self.layouts.len());
            if known.is_none() {
                self.layouts.push(part.layout.clone());
                self.ops.push(Op::Layout(part.layout.clone()));
            }
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            self.ops.push(Op::Device(number, part.record.path.clone()));
            self.pending.push(part);
        }
        Ok(())
    }

    pub(super) fn switch(&mut self) -> Result<(), Error> {
        self.flush_pages()?;
        self.manifest()?;
        if !self.switched {
            self.switched = true;
            let mode = if self.packaged { SwitchMode::Postcopy } else { SwitchMode::Stopped };
            self.writer.switch(&Switch { mode })?;
        }
        Ok(())
    }

    /// Writes the records of a group: their schemas, the note that orders them, the records.
    pub(super) fn flush_devices(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.flush_pages()?;
        self.manifest()?;
        let mut records = Vec::with_capacity(self.pending.len());
        for Part { record, schema, layout: _ } in std::mem::take(&mut self.pending) {
            let schema = self.writer.schema(&schema)?;
            records.push(DeviceRecord { schema, ..record });
            // Whoever waits for it learns some while the next are written.
            if self.live && records.len() % SCHEMAS == 0 {
                self.writer.flush()?;
            }
        }
        self.flush_ops()?;
        self.switch()?;
        let weigh = |record: &DeviceRecord| weight(&Ours::Map(record.state.clone()));
        for group in groups(&records, weigh) {
            self.writer.devices(group, Finality::Final)?;
        }
        Ok(self.writer.flush()?)
    }
}
