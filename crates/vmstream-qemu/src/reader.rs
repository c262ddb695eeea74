//! Reads a stream from its beginning, once, and hands on what it finds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;

use crate::ahead;
use crate::bitmap;
use crate::configuration;
use crate::cursor::Cursor;
use crate::description::Description;
use crate::element::{
    BlockHead, COMMAND, CONFIGURATION, Command, END, Event, FOOTER, FULL, LAST, MAGIC, PART, START,
    SectionHead, SectionKind, Sink, VERSION,
};
use crate::error::{Broken, ReadError, Rule};
use crate::input::{Input, len64};
use crate::tail;

/// Bytes of device state that are held at once, with their description: it comes last and is needed first.
pub(crate) const STATE_BYTES: u64 = 20 << 20;

/// Reads QEMU's stream.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    donor: Option<Description>,
    live: bool,
}

impl Reader {
    /// A reader that knows nothing but the stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A reader that uses this description where a stream has none of its own: postcopy has none.
    ///
    /// It must be of the same build of QEMU and the same machine.
    #[must_use]
    pub fn with_description(mut self, description: Description) -> Self {
        self.donor = Some(description);
        self
    }

    /// A reader of a connection that stays open behind the stream: nothing is waited for behind its own end.
    #[must_use]
    pub fn live(mut self) -> Self {
        self.live = true;
        self
    }

    /// Whether the connection stays open behind the stream.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Reads one channel or file from beginning to end.
    ///
    /// # Errors
    ///
    /// At the first rule that the stream breaks; when `source` fails; when `sink` refuses an event.
    pub fn read(&self, source: &mut dyn Read, sink: &mut dyn Sink) -> Result<(), ReadError> {
        self.read_from(&mut Input::new(source, 0), sink)
    }

    /// Reads a regular file from its beginning, wherever it stands, for somebody who has no use for what is in pages.
    ///
    /// Those of a file that can be mapped are passed over, and come as [`RamRecord::Passed`](crate::RamRecord::Passed). A single
    /// page between its neighbours' heads is read sooner than passed over.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`].
    pub fn read_for_state(&self, file: &File, sink: &mut dyn Sink) -> Result<(), ReadError> {
        let input = Input::of_file(file);
        let mut input = input.map_err(|source| ReadError::Io { offset: 0, source })?;
        self.read_from(&mut input, sink)
    }

    /// Reads a regular file as [`Reader::read_for_state`] does, but not its memory where its end tells where devices begin: behind
    /// the announcement of memory, the next event is then the first device's.
    ///
    /// What is wrong with memory in between is not found; nor is it that the stream ended there, and what the file ends with is of
    /// another one.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`].
    pub fn read_devices(&self, file: &File, sink: &mut dyn Sink) -> Result<(), ReadError> {
        let input = Input::of_file(file);
        let mut input = input.map_err(|source| ReadError::Io { offset: 0, source })?;
        let mut session = Session::new(sink, self);
        session.may_leave_memory = true;
        session.header(&mut input)?;
        session.stream(&mut input)
    }

    fn read_from(&self, input: &mut Input<'_>, sink: &mut dyn Sink) -> Result<(), ReadError> {
        let mut session = Session::new(sink, self);
        session.header(input)?;
        session.stream(input)
    }
}

/// What is known of a stream while it is read.
pub(crate) struct Session<'s> {
    sink: &'s mut dyn Sink,
    pub(crate) donor: Option<&'s Description>,
    pub(crate) live: bool,
    pub(crate) page_bytes: u64,
    pub(crate) blocks: Vec<BlockHead>,
    /// The block of the last page.
    pub(crate) block: Option<u32>,
    pub(crate) ignore_shared: bool,
    pub(crate) mapped_ram: bool,
    /// The sizes of host pages above a target page's, one bit each, as the source said for postcopy.
    pub(crate) huge_pages: u64,
    /// Sections that were started, by their number.
    pub(crate) sections: BTreeMap<u32, SectionHead>,
    /// Whether sections end with a footer; unknown before the first one ends.
    pub(crate) footers: Option<bool>,
    /// Whether memory need not be read, and it has not been tried yet to do without.
    may_leave_memory: bool,
    /// Whether a body that is not as described is no body: otherwise it ends at a footer, and stays opaque.
    pub(crate) is_strict: bool,
    /// A description that was read before its turn, and where it stands.
    pub(crate) ahead: Option<(u64, Description)>,
}

/// Sections of one stream; large machines have some hundred.
const SECTIONS: usize = 16_384;

impl<'s> Session<'s> {
    pub(crate) fn new(sink: &'s mut dyn Sink, reader: &'s Reader) -> Self {
        Self {
            sink,
            donor: reader.donor.as_ref(),
            live: reader.live,
            page_bytes: 4096,
            blocks: Vec::new(),
            block: None,
            ignore_shared: false,
            mapped_ram: false,
            huge_pages: 0,
            sections: BTreeMap::new(),
            footers: None,
            may_leave_memory: false,
            is_strict: false,
            ahead: None,
        }
    }

    pub(crate) fn emit(&mut self, range: Range<u64>, event: &Event<'_>) -> Result<(), ReadError> {
        let offset = range.start;
        self.sink.event(range, event).map_err(|source| ReadError::Sink { offset, source })
    }

    /// Hands on bytes that have been read and not understood yet, up to `offset`.
    pub(crate) fn emit_ahead(
        &mut self,
        bytes: &[u8],
        offset: u64,
        is_last: bool,
    ) -> Result<(), ReadError> {
        self.sink.ahead(bytes, is_last).map_err(|source| ReadError::Sink { offset, source })
    }

    pub(crate) fn page_mask(&self) -> u64 {
        self.page_bytes.saturating_sub(1)
    }

    pub(crate) fn page_length(&self) -> usize {
        usize::try_from(self.page_bytes).unwrap_or(usize::MAX)
    }

    fn header(&mut self, input: &mut Input<'_>) -> Result<(), ReadError> {
        let magic = input.be32()?;
        if magic != MAGIC {
            return Err(Broken::at(0, Rule::Magic).found(magic).want(MAGIC).into());
        }
        let version = input.be32()?;
        if version != VERSION {
            return Err(Broken::at(4, Rule::Version).found(version).want(VERSION).into());
        }
        self.emit(0..8, &Event::Header)
    }

    /// Elements whose grammar is known are handed on as they come; from the first other one on the rest is held.
    fn stream(&mut self, input: &mut Input<'_>) -> Result<(), ReadError> {
        loop {
            let start = input.offset();
            match input.peek_u8()? {
                END => {
                    input.consume(1);
                    self.emit(start..input.offset(), &Event::End)?;
                    return tail::after_end(self, input);
                }
                CONFIGURATION => self.configuration(input)?,
                COMMAND => self.command(input, Nesting::Outer)?,
                START | FULL | PART | LAST => {
                    let (head, length) = self.peek_head(input)?;
                    match &*head.name {
                        "ram" if self.leaves_memory(input, &head)? => {}
                        "ram" => {
                            input.consume(length);
                            self.ram_section(input, start, &head)?;
                        }
                        "dirty-bitmap" if head.kind != SectionKind::Full => {
                            input.consume(length);
                            self.bitmap_section(input, start, &head)?;
                        }
                        _ => return tail::read(self, input),
                    }
                }
                other => return Err(Broken::at(start, Rule::Element).found(other).into()),
            }
        }
    }

    /// Goes on to the first device behind memory, from memory's second section on, if nobody needs it and the file's end tells
    /// where that is.
    fn leaves_memory(
        &mut self,
        input: &mut Input<'_>,
        head: &SectionHead,
    ) -> Result<bool, ReadError> {
        if !self.may_leave_memory || head.kind == SectionKind::Start {
            return Ok(false);
        }
        self.may_leave_memory = false;
        let Some(found) = ahead::devices(input, head.section_id) else { return Ok(false) };
        input.skip(found.start.saturating_sub(input.offset()))?;
        self.footers = Some(true);
        self.ahead = Some((found.described_at, found.description));
        Ok(true)
    }

    /// What begins the section that stands here, and its length; not consumed.
    fn peek_head(&mut self, input: &mut Input<'_>) -> Result<(SectionHead, usize), ReadError> {
        let start = input.offset();
        // Kind and number, then for a first part the name's length, the name, instance and version.
        let first = *input.need(1)?.first().unwrap_or(&0);
        let length = if matches!(first, START | FULL) {
            let name = *input.need(6)?.get(5).unwrap_or(&0);
            usize::from(name).saturating_add(14)
        } else {
            5
        };
        let bytes = input.need(length)?;
        let mut cursor = Cursor::new(bytes, start);
        let head = self.head(&mut cursor)?;
        Ok((head, length))
    }

    /// Reads what begins a section and remembers whose number it is.
    pub(crate) fn head(&mut self, cursor: &mut Cursor<'_>) -> Result<SectionHead, Broken> {
        let start = cursor.offset();
        let kind = match cursor.u8()? {
            START => SectionKind::Start,
            PART => SectionKind::Part,
            LAST => SectionKind::End,
            FULL => SectionKind::Full,
            other => return Err(Broken::at(start, Rule::Element).found(other)),
        };
        let section_id = cursor.be32()?;
        if matches!(kind, SectionKind::Part | SectionKind::End) {
            let known = self.sections.get(&section_id);
            let known =
                known.ok_or_else(|| Broken::at(start, Rule::UnknownSection).found(section_id))?;
            return Ok(SectionHead { kind, ..known.clone() });
        }
        let name = cursor.counted()?.into();
        let (instance_id, version) = (cursor.be32()?, cursor.be32()?);
        let head = SectionHead { kind, section_id, name, instance_id, version };
        if self.sections.len() >= SECTIONS {
            return Err(Broken::at(start, Rule::Length).want(len64(SECTIONS)));
        }
        self.sections.insert(section_id, head.clone());
        Ok(head)
    }

    /// A part of the memory, its head consumed.
    pub(crate) fn ram_section(
        &mut self,
        input: &mut Input<'_>,
        start: u64,
        head: &SectionHead,
    ) -> Result<(), ReadError> {
        self.emit(start..input.offset(), &Event::Section(head))?;
        self.ram(input)?;
        self.footer(input, head.section_id)
    }

    /// A part of what is known of disks' blocks, its head consumed.
    pub(crate) fn bitmap_section(
        &mut self,
        input: &mut Input<'_>,
        start: u64,
        head: &SectionHead,
    ) -> Result<(), ReadError> {
        self.emit(start..input.offset(), &Event::Section(head))?;
        let start = input.offset();
        let bytes = bitmap::body(input)?;
        self.emit(start..input.offset(), &Event::Opaque(&bytes))?;
        self.footer(input, head.section_id)
    }

    fn footer(&mut self, input: &mut Input<'_>, section_id: u32) -> Result<(), ReadError> {
        let start = input.offset();
        let there = input.peek_u8()? == FOOTER;
        if there != *self.footers.get_or_insert(there) {
            return Err(Broken::at(start, Rule::Footer).into());
        }
        if there {
            input.consume(1);
            let found = input.be32()?;
            if found != section_id {
                let broken = Broken::at(start, Rule::Footer).found(found).want(section_id);
                return Err(broken.into());
            }
            self.emit(start..input.offset(), &Event::Footer { section_id })?;
        }
        Ok(())
    }

    fn configuration(&mut self, input: &mut Input<'_>) -> Result<(), ReadError> {
        let start = input.offset();
        input.consume(1);
        let configuration = configuration::read(input)?;
        let facts = configuration::facts(&configuration);
        if let Some(bits) = facts.page_bits {
            if !(10..=16).contains(&bits) {
                return Err(Broken::at(start, Rule::Configuration).found(bits).into());
            }
            self.page_bytes = 1 << bits;
        }
        self.ignore_shared = facts.ignore_shared;
        self.mapped_ram = facts.mapped_ram;
        self.emit(start..input.offset(), &Event::Configuration(&configuration))
    }

    pub(crate) fn command(
        &mut self,
        input: &mut Input<'_>,
        nesting: Nesting,
    ) -> Result<(), ReadError> {
        let start = input.offset();
        input.consume(1);
        let number = input.be16()?;
        let length = input.be16()?;
        let data = input.vec(length.into(), u64::from(u16::MAX))?;
        let command = Command { number, data: &data };
        let package = command_package(&command)
            .ok_or_else(|| Broken::at(start, Rule::Command).found(number))?;
        if number == Command::POSTCOPY_ADVISE {
            let sizes = data.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            self.huge_pages = sizes & !(self.page_mask() | self.page_bytes);
        }
        self.emit(start..input.offset(), &Event::Command(command))?;
        match (package, nesting) {
            (None, _) => Ok(()),
            (Some(_), Nesting::Package) => Err(Broken::at(start, Rule::Nesting).into()),
            (Some(bytes), Nesting::Outer) => tail::package(self, input, bytes),
        }
    }
}

/// Whether elements stand in the channel itself or in a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nesting {
    Outer,
    Package,
}

/// Bytes of the package that follows; `None` within for commands without one, without for what is no command.
fn command_package(command: &Command<'_>) -> Option<Option<u64>> {
    let length = command.data.len();
    let fits = match command.number {
        Command::OPEN_RETURN_PATH
        | Command::POSTCOPY_LISTEN
        | Command::POSTCOPY_RUN
        | Command::ENABLE_COLO
        | Command::POSTCOPY_RESUME
        | Command::SWITCHOVER_START => length == 0,
        Command::PING | Command::PACKAGED => length == 4,
        Command::POSTCOPY_ADVISE => length == 0 || length == 16,
        Command::POSTCOPY_RAM_DISCARD | Command::RECV_BITMAP => length > 0,
        _ => false,
    };
    let package = command.data.first_chunk().filter(|_| command.number == Command::PACKAGED);
    fits.then_some(package.map(|bytes| u64::from(u32::from_be_bytes(*bytes))))
}
