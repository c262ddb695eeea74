//! Takes the events of QEMU's stream, and writes ours.

mod apart;
mod memory;
mod sections;

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use vmstream::contract::Attribute;
use vmstream::message::{Manifest, Note, Verdict};
use vmstream::{Finding, Value as Ours, Writer};
use vmstream_qemu::{BlockHead, Command, Event, SectionHead, Sink};

use self::apart::Apart;
use crate::device::{Devices, Part};
use crate::error::Error;
use crate::gather::Gather;
use crate::given::Piece;
use crate::groups::{groups, weight};
use crate::layout::Layout;
use crate::op::{NOTE, Op};
use crate::to::{Content, Options, SOURCE_FAILED};

/// Bytes of what is cut into pieces: descriptions, bodies.
const PIECE: usize = 256 << 10;
/// Bytes of pages in a frame that somebody waits for: he goes on with one while the next is read.
const FRAME: usize = 512 << 10;
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
        // What is empty stood there all the same.
        let mut pieces = bytes.chunks(PIECE);
        let first = pieces.next().unwrap_or_default();
        std::iter::once(first).chain(pieces).try_for_each(|piece| self.op(op(piece.to_vec())))
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
