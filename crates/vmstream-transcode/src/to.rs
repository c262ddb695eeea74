//! QEMU's stream as ours.

use std::io::{self, Read, Write};
use std::ops::Range;

use vmstream::contract::{Attribute, Policy};
use vmstream::message::{
    DeviceRecord, Encoding, Hello, Manifest, Note, Producer, Purpose, Region, Switch, SwitchMode,
};
use vmstream::value::encode;
use vmstream::writer::Finality;
use vmstream::{Value as Ours, WriteError, Writer};
use vmstream_qemu::{
    BlockHead, Command, Event, Page, RamRecord, Reader, SectionHead, SectionKind, Sink, Structure,
    agreed_capabilities, machine,
};

use crate::device::{Devices, Part};
use crate::error::Error;
use crate::gather::Gather;
use crate::layout::Layout;
use crate::op::{NOTE, Op};
use crate::state;

/// Bytes of one note or frame of records, well below the most that it may have.
const FRAME_BYTES: usize = 512 << 10;
/// Values of one note or frame of records, likewise.
const FRAME_VALUES: usize = 200_000;
/// Bytes of what is cut into pieces: descriptions, bodies.
const PIECE: usize = 256 << 10;

/// How a stream of QEMU's becomes one of ours.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who is said to have made the stream; QEMU's own does not say which version wrote it.
    pub producer: Producer,
    /// How pages are stored.
    pub encoding: Encoding,
    /// Whether an index follows, for readers that can seek.
    pub index: bool,
    /// How QEMU's stream is read: whether its connection stays open, what else describes its devices.
    pub reader: Reader,
    /// The blocks of memory, if they are known before: those of a file that can be mapped must be. See [`memory`].
    pub memory: Vec<BlockHead>,
}

impl Default for Options {
    fn default() -> Self {
        let (name, version) = ("vmstream-transcode".to_owned(), env!("CARGO_PKG_VERSION"));
        Self {
            producer: Producer { name, version: version.to_owned() },
            encoding: Encoding::Raw,
            index: false,
            reader: Reader::new(),
            memory: Vec::new(),
        }
    }
}

/// Reads a stream of QEMU's and writes it as ours, page by page: both may be pipes.
///
/// At most one frame of pages and the device state are held. Returns the output and the digest that names the stream.
///
/// # Errors
///
/// [`Error`]: at the first rule that QEMU's stream breaks, and for what ours cannot say: pages as differences (xbzrle).
pub fn to_vmstream<W: Write>(
    source: &mut dyn Read,
    out: W,
    options: &Options,
) -> Result<(W, [u8; 32]), Error> {
    let mut hello = Hello::new("", "", Purpose::State);
    hello.producer = options.producer.clone();
    hello.needs = vec!["late-schemas".to_owned()];
    let mut encoder = Encoder {
        writer: Writer::new(out, &hello)?,
        gather: Gather::new(options.encoding),
        devices: Devices::default(),
        pending: Vec::new(),
        ops: Vec::new(),
        op_bytes: 0,
        layouts: Vec::new(),
        known: !options.memory.is_empty(),
        blocks: options.memory.clone(),
        page_bytes: 4096,
        machine: Vec::new(),
        section: None,
        described: false,
        switched: false,
        packaged: false,
        failed: None,
    };
    let read = options.reader.read(source, &mut encoder);
    if let Some(failed) = encoder.failed.take() {
        return Err(failed);
    }
    read?;
    encoder.flush_devices()?;
    encoder.switch()?;
    encoder.flush_ops()?;
    Ok(if options.index { encoder.writer.finish_with_index()? } else { encoder.writer.finish()? })
}

/// The blocks of memory of a stream of QEMU's, which is read up to the end of the first section of memory.
///
/// # Errors
///
/// At the first rule that the stream breaks up to there.
pub fn memory(source: &mut dyn Read) -> Result<Vec<BlockHead>, Error> {
    let (mut blocks, mut over) = (Vec::new(), false);
    let read = Reader::new().read(source, &mut |_: Range<u64>, event: &Event<'_>| {
        if let Event::Ram(RamRecord::Block(head)) = event {
            blocks.push((*head).clone());
        }
        over |= matches!(event, Event::Ram(RamRecord::End));
        if over { Err(io::Error::other("that was all of it")) } else { Ok(()) }
    });
    match read {
        Err(error) if !over => Err(error.into()),
        _ => Ok(blocks),
    }
}

/// Takes the events of QEMU's stream.
struct Encoder<W> {
    writer: Writer<W>,
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
    section: Option<SectionHead>,
    /// Whether the manifest has been written.
    described: bool,
    switched: bool,
    packaged: bool,
    failed: Option<Error>,
}

impl<W: Write> Sink for Encoder<W> {
    fn event(&mut self, _: Range<u64>, event: &Event<'_>) -> io::Result<()> {
        self.take(event).map_err(|error| {
            self.failed = Some(error);
            io::Error::other("no stream of ours")
        })
    }
}

impl<W: Write> Encoder<W> {
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
            Event::Footer { section_id } => self.op(Op::Footer(*section_id)),
            Event::Command(command) => {
                self.packaged |= command.number == Command::PACKAGED;
                self.op(Op::Command(command.number, command.data.to_vec()))
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
        self.op_bytes = self.op_bytes.saturating_add(op.bytes());
        self.ops.push(op);
        // Records come before their notes are too long to be held.
        if self.pending.is_empty() && self.op_bytes > FRAME_BYTES {
            self.flush_ops()
        } else {
            Ok(())
        }
    }

    fn pieces(&mut self, bytes: &[u8], op: impl Fn(Vec<u8>) -> Op) -> Result<(), Error> {
        bytes.chunks(PIECE).try_for_each(|piece| self.op(op(piece.to_vec())))
    }

    fn configuration(&mut self, configuration: &Structure) -> Result<(), Error> {
        let bits = configuration.find("target-page-bits/target_page_bits");
        if let Some(bits) = bits.and_then(|(_, value)| value.as_unsigned()) {
            self.page_bytes = 1u64.checked_shl(u32::try_from(bits).unwrap_or(64)).unwrap_or(4096);
            self.gather.set_page_bytes(usize::try_from(self.page_bytes).unwrap_or(4096));
        }
        let (exact, named) = (Policy::Exact, "machine");
        self.machine.extend(
            machine(configuration).map(|name| {
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

    fn ram(&mut self, record: &RamRecord<'_>) -> Result<(), Error> {
        match record {
            RamRecord::Total { bytes } => {
                if self.described {
                    let why = "memory was announced already";
                    return Err(Error::Unsupported { what: "blocks of memory", why });
                }
                self.op(Op::Total(*bytes))
            }
            RamRecord::Block(head) => {
                // Of mapped memory, the pages follow each block, and the manifest, which has all blocks, comes before.
                if head.mapped.is_some() && !self.known {
                    let why = "its blocks must be known before; it can be read from a file";
                    return Err(Error::Unsupported { what: "mapped-ram", why });
                }
                if !self.known {
                    self.blocks.push((*head).clone());
                }
                self.op(Op::Block((*head).clone()))
            }
            RamRecord::Bitmap { .. } | RamRecord::Gap { .. } => Ok(()),
            RamRecord::MappedPages { block, offset, data } => {
                let pages = data.chunks(usize::try_from(self.page_bytes).unwrap_or(4096));
                let first = offset.checked_div(self.page_bytes).unwrap_or(0);
                for (page, data) in (first..).zip(pages) {
                    self.page((*block, page), Some(data), false)?;
                }
                Ok(())
            }
            RamRecord::MappedZeros { block, offset, bytes } => {
                let pages = |bytes: &u64| bytes.checked_div(self.page_bytes).unwrap_or(0);
                let (first, count) = (pages(offset), pages(bytes));
                if !self.gather.takes(*block, first) {
                    self.flush_pages()?;
                }
                self.gather.zeros(*block, first, count);
                Ok(())
            }
            RamRecord::Fill { page, byte: 0 } => self.page_record(page, None),
            RamRecord::Fill { .. } => {
                let why = "QEMU sends pages of zeros only";
                Err(Error::Unsupported { what: "a page of one byte over and over", why })
            }
            RamRecord::Data { page, data } => self.page_record(page, Some(data)),
            RamRecord::Xbzrle { .. } => {
                let why = "it needs what the page was; turn the capability xbzrle off";
                Err(Error::Unsupported { what: "a difference of a page", why })
            }
            RamRecord::MultifdFlush => self.op(Op::Flush),
            RamRecord::End => {
                self.op(Op::RamEnd)?;
                self.manifest()
            }
            _ => Err(Error::Unsupported { what: "a record of memory", why: "it is not known" }),
        }
    }

    fn page_record(&mut self, page: &Page, data: Option<&[u8]>) -> Result<(), Error> {
        let Page { block, offset, named } = *page;
        let number = offset.checked_div(self.page_bytes).unwrap_or(0);
        self.page((block, number), data, named)
    }

    fn page(&mut self, at: (u32, u64), data: Option<&[u8]>, named: bool) -> Result<(), Error> {
        if !self.described {
            self.manifest()?;
        }
        if !self.gather.takes(at.0, at.1) {
            self.flush_pages()?;
        }
        self.gather.page(at, data, named);
        Ok(())
    }

    fn flush_pages(&mut self) -> Result<(), Error> {
        let taken = self.gather.take().map_err(|broken| WriteError::Broken { frame: 0, broken })?;
        if let Some((pages, odd)) = taken {
            if !(odd.named.is_empty() && odd.full.is_empty()) {
                self.ops.push(Op::Odd(odd));
            }
            self.flush_ops()?;
            self.writer.pages(&pages)?;
            self.writer.flush()?;
        }
        Ok(())
    }

    fn manifest(&mut self) -> Result<(), Error> {
        if self.described {
            return Ok(());
        }
        self.described = true;
        let region = |block: &BlockHead| Region {
            name: block.name.to_string(),
            kind: kind_of(&block.name).to_owned(),
            bytes: block.bytes,
            gpa: block.gpa,
        };
        let manifest = Manifest {
            page_size: self.page_bytes,
            memory: self.blocks.iter().map(region).collect(),
            contract: std::mem::take(&mut self.machine),
            ..Manifest::default()
        };
        Ok(self.writer.manifest(&manifest)?)
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
        let ops: Vec<_> = std::mem::take(&mut self.ops).iter().map(Op::to_value).collect();
        for group in groups(&ops, weight) {
            let note = Note { name: NOTE.to_owned(), value: Ours::List(group.to_vec()) };
            self.writer.note(&note)?;
        }
        Ok(())
    }
}

fn weight(value: &Ours) -> (usize, usize) {
    (encode(value).len(), value.count())
}

/// Neighbours that fit one frame together. What is too large by itself is alone.
fn groups<T>(all: &[T], weigh: impl Fn(&T) -> (usize, usize)) -> Vec<&[T]> {
    let (mut groups, mut start, mut sum) = (Vec::new(), 0, (0, 0));
    for (at, item) in all.iter().enumerate() {
        let (bytes, values) = weigh(item);
        // Path, kind and heads of a record.
        let more = (bytes.saturating_add(1024), values.saturating_add(8));
        sum = (more.0.saturating_add(sum.0), more.1.saturating_add(sum.1));
        if at > start && (sum.0 > FRAME_BYTES || sum.1 > FRAME_VALUES) {
            groups.extend(all.get(start..at));
            (start, sum) = (at, more);
        }
    }
    groups.extend(all.get(start..).filter(|rest| !rest.is_empty()));
    groups
}

/// What a block of memory is, by QEMU's name for it.
fn kind_of(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    if has("vram") || has("vga.") {
        "vram"
    } else if has("rom") || has("bios") || has("acpi") || has("etc/") || has("flash") {
        "rom"
    } else {
        "ram"
    }
}
