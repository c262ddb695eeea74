//! Takes the events of QEMU's stream, and writes ours.

mod apart;
mod memory;

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use vmstream::contract::{Attribute, Policy};
use vmstream::message::{DeviceRecord, Manifest, Note, Switch, SwitchMode, Verdict};
use vmstream::writer::Finality;
use vmstream::{Finding, Value as Ours, Writer};
use vmstream_qemu::{
    BlockHead, Command, Event, SectionHead, SectionKind, Sink, Structure, agreed_capabilities,
    machine,
};

use self::apart::Apart;
use crate::device::{Devices, Part};
use crate::error::Error;
use crate::gather::Gather;
use crate::given::Piece;
use crate::groups::{groups, weight};
use crate::layout::Layout;
use crate::op::{NOTE, Op};
use crate::state;
use crate::to::{Content, Options, SOURCE_FAILED};

/// Bytes of what is cut into pieces: descriptions, bodies.
const PIECE: usize = 256 << 10;
/// Bytes of pages in a frame that somebody waits for: he goes on with one while the next is read.
const FRAME: usize = 512 << 10;
/// Records whose schemas somebody who waits is given at once.
const SCHEMAS: usize = 8;
/// Bytes of what the next note says, beyond which it is written.
const NOTE_BYTES: usize = 512 << 10;

/// Takes the events of QEMU's stream.
pub(crate) struct Encoder<W> {
    writer: Writer<W>,
    content: Content,
    gather: Gather,
    devices: Devices,
    /// Records that wait for the end of their group.
    pending: Vec<Part>,
    /// What the next note says.
    ops: Vec<Op>,
    op_bytes: usize,
    layouts: Vec<Layout>,
    blocks: Vec<BlockHead>,
    /// Whether these were known before the stream announced them.
    known: bool,
    page_bytes: u64,
    machine: Vec<Attribute>,
    verdict: Option<Verdict>,
    written: Arc<OnceLock<Manifest>>,
    /// Whether somebody at the other end waits for what has come.
    live: bool,
    /// Whether something of what follows has been given before it is understood.
    gives: bool,
    ahead: Option<Arc<AtomicBool>>,
    section: Option<SectionHead>,
    /// Whether the manifest has been written.
    described: bool,
    switched: bool,
    packaged: bool,
    /// Where the event begins in QEMU's stream.
    at: u64,
    apart: Apart,
    failed: Option<Error>,
}

impl<W: Write> Sink for Encoder<W> {
    fn event(&mut self, range: Range<u64>, event: &Event<'_>) -> io::Result<()> {
        self.at = range.start;
        self.take(event).map_err(|error| {
            self.failed = Some(error);
            io::Error::other("no stream of ours")
        })
    }

    fn ahead(&mut self, bytes: &[u8], is_last: bool) -> io::Result<()> {
        if self.ahead.is_none() {
            return Ok(());
        }
        self.give(bytes, is_last).map_err(|error| {
            self.failed = Some(error);
            io::Error::other("no stream of ours")
        })
    }
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(writer: Writer<W>, options: &Options) -> Self {
        let live = options.reader.is_live();
        Self {
            writer,
            content: options.content,
            gather: Gather::new(options.encoding, if live { FRAME } else { usize::MAX }),
            devices: Devices::default(),
            pending: Vec::new(),
            ops: Vec::new(),
            op_bytes: 0,
            layouts: Vec::new(),
            known: !options.memory.is_empty(),
            blocks: options.memory.clone(),
            page_bytes: 4096,
            machine: options.contract.clone(),
            verdict: options.verdict.clone(),
            written: Arc::clone(&options.manifest),
            live,
            gives: false,
            ahead: options.ahead.clone(),
            section: None,
            described: false,
            switched: false,
            packaged: false,
            at: 0,
            apart: Apart::new(options),
            failed: None,
        }
    }

    /// What went wrong, if that is why reading ended.
    pub(crate) const fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Ends the stream with why it has no other end, if that can still be written.
    pub(crate) fn abort(mut self, why: &Error) {
        let finding = Finding::new(SOURCE_FAILED, "", "device").because_of(why);
        // Whoever reads is told by the connection's end otherwise.
        drop(self.writer.abort(&finding));
    }

    /// Writes what is left, when QEMU's stream has ended.
    pub(crate) fn finish(mut self) -> Result<Writer<W>, Error> {
        self.flush_devices()?;
        self.end_channels()?;
        self.expect_data()?;
        self.switch()?;
        self.flush_ops()?;
        Ok(self.writer)
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), Error> {
        match event {
            Event::Header => self.op(Op::Header),
            Event::Configuration(configuration) => self.configuration(configuration),
            Event::Section(head) => self.begin(head),
            Event::Ram(record) => self.ram(record),
            Event::Device(structure) => {
                self.device(|devices, head| devices.structure(head, structure))
            }
            Event::Opaque(bytes) if !self.is_full() => self.pieces(bytes, Op::Body),
            Event::Opaque(bytes) => self.device(|devices, head| devices.bytes(head, bytes)),
            Event::Footer { section_id } => {
                self.op(Op::Footer(*section_id))?;
                self.hand_on()
            }
            Event::Command(command) => {
                self.packaged |= command.number == Command::PACKAGED;
                self.op(Op::Command(command.number, command.data.to_vec()))?;
                self.hand_on()
            }
            Event::PackageEnd => {
                self.op(Op::PackageEnd)?;
                self.flush_devices()
            }
            Event::End => self.op(Op::End),
            Event::Description { json } => self.pieces(json, Op::Description),
            Event::Trailing(bytes) => self.pieces(bytes, Op::Trailing),
            _ => Err(Error::Unsupported { what: "an element", why: "it is not known" }),
        }
    }

    /// Remembers what the next note says. What stands before it in the stream has been written.
    fn op(&mut self, op: Op) -> Result<(), Error> {
        self.flush_pages()?;
        if self.content == Content::State {
            return Ok(());
        }
        self.op_bytes = self.op_bytes.saturating_add(op.bytes());
        self.ops.push(op);
        // Records come before their notes are too long to be held.
        if self.pending.is_empty() && self.op_bytes > NOTE_BYTES {
            self.flush_ops()
        } else {
            Ok(())
        }
    }

    /// Writes all that has come, if somebody waits for it: a command to be answered, a page that a guest stands still for.
    fn hand_on(&mut self) -> Result<(), Error> {
        if !self.live || !self.pending.is_empty() {
            return Ok(());
        }
        self.flush_ops()?;
        Ok(self.writer.flush()?)
    }

    /// Writes bytes whose steps follow, behind all steps before them.
    fn give(&mut self, bytes: &[u8], is_last: bool) -> Result<(), Error> {
        if !self.gives {
            self.gives = true;
            self.flush_pages()?;
            self.flush_ops()?;
        }
        let mut pieces = bytes.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            let piece = Piece { bytes: piece, is_last: is_last && pieces.peek().is_none() };
            self.writer.note(&piece.to_note())?;
        }
        if let Some(over) = self.ahead.as_ref().filter(|_| is_last) {
            over.store(true, Ordering::SeqCst);
        }
        Ok(self.writer.flush()?)
    }

    fn pieces(&mut self, bytes: &[u8], op: impl Fn(Vec<u8>) -> Op) -> Result<(), Error> {
        if self.content == Content::State {
            return self.flush_pages();
        }
        bytes.chunks(PIECE).try_for_each(|piece| self.op(op(piece.to_vec())))
    }

    fn configuration(&mut self, configuration: &Structure) -> Result<(), Error> {
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

    fn is_full(&self) -> bool {
        self.section.as_ref().is_some_and(|head| head.kind == SectionKind::Full)
    }

    fn begin(&mut self, head: &SectionHead) -> Result<(), Error> {
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
    fn device(
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

    fn switch(&mut self) -> Result<(), Error> {
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
    fn flush_devices(&mut self) -> Result<(), Error> {
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

    fn flush_ops(&mut self) -> Result<(), Error> {
        self.op_bytes = 0;
        let ops = std::mem::take(&mut self.ops);
        if self.content == Content::State {
            return Ok(());
        }
        let ops: Vec<_> = ops.iter().map(Op::to_value).collect();
        for group in groups(&ops, weight) {
            let note = Note { name: NOTE.to_owned(), value: Ours::List(group.to_vec()) };
            self.writer.note(&note)?;
        }
        Ok(())
    }
}
