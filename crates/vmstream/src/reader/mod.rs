//! Reading a stream, frame by frame, from anything that gives bytes.
//!
//! # What a reader promises
//!
//! - It reads no byte beyond the end of the stream, and needs to go back to none.
//! - What it hands out has been checked: checksums, order, types, ranges, regions.
//! - No input makes it panic, or hold more than 64 MiB.
//!
//! # What it leaves to others
//!
//! - Whether the machine can be loaded here: [`crate::contract`] and [`crate::resolve`].
//! - That all was received: nothing may be taken as true before [`Event::Finish`].

mod event;
mod payload;
mod ram;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use crate::broken::Broken;
use crate::finding::Finding;
use crate::frame::{CHECKED_APART, HEADER_BYTES, Header, Kind, MAGIC};
use crate::message::{Hello, Manifest, Message, Pages};
use crate::rule::Rule;
use crate::schema::Schema;
use crate::session::Session;

pub use event::{Event, Frame};
pub(crate) use payload::inflate;
use ram::OpenRam;

/// Why a stream could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The input could not be read.
    #[error("reading failed at byte {offset}")]
    Io {
        /// How far the reader had got, bytes.
        offset: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// The input breaks a rule.
    #[error("frame {frame}, byte {}", broken.at)]
    Broken {
        /// Which frame, counted from 0.
        frame: u64,
        /// Which rule; its offset is from the start of the stream.
        #[source]
        broken: Broken,
    },
}

impl ReadError {
    /// The same as data.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Io { offset, source } => Finding {
                offset: Some(*offset),
                ..Finding::new("read-failed", "", "frame").because(source.to_string())
            },
            Self::Broken { frame, broken } => Finding::broken(broken, *frame),
        }
    }

    /// The rule that was broken, if one was.
    #[must_use]
    pub const fn rule(&self) -> Option<Rule> {
        match self {
            Self::Io { .. } => None,
            Self::Broken { broken, .. } => Some(broken.rule),
        }
    }
}

/// Reads a stream.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    session: Session,
    begun: bool,
    /// The ram frame whose data come next, or whose checksums do.
    ram: Option<OpenRam>,
    index_at: Option<u64>,
    frame: Option<Frame>,
    /// The last payload of metadata as it came, and inflated if it was compressed.
    payload: Vec<u8>,
    inflated: Option<Vec<u8>>,
    skipped: u64,
    /// What the next payload is read into.
    spare: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// A reader at the beginning of a stream.
    #[must_use]
    pub fn new(input: R) -> Self {
        Self {
            input,
            session: Session::new(),
            begun: false,
            ram: None,
            index_at: None,
            frame: None,
            payload: Vec::new(),
            inflated: None,
            skipped: 0,
            spare: Vec::new(),
        }
    }

    /// What the stream said first, once it has.
    #[must_use]
    pub const fn hello(&self) -> Option<&Hello> {
        self.session.hello()
    }

    /// The manifest, once it has come.
    #[must_use]
    pub const fn manifest(&self) -> Option<&Manifest> {
        self.session.manifest()
    }

    /// A schema that has come.
    #[must_use]
    pub fn schema(&self, id: u32) -> Option<&Arc<Schema>> {
        self.session.schemas().get(&id)
    }

    /// All schemas that have come, by id.
    #[must_use]
    pub const fn schemas(&self) -> &BTreeMap<u32, Arc<Schema>> {
        self.session.schemas()
    }

    /// The frame that the last event came from.
    #[must_use]
    pub const fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// The CBOR of the last frame, if that was one of metadata.
    #[must_use]
    pub fn metadata_bytes(&self) -> &[u8] {
        self.inflated.as_deref().unwrap_or(&self.payload)
    }

    /// The payload of the last frame as it came, if that was one of metadata.
    #[must_use]
    pub fn payload_bytes(&self) -> &[u8] {
        &self.payload
    }

    /// How many frames of unknown kinds were passed over.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The input, wherever the reader has got to.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next thing that the stream says; nothing at its end.
    ///
    /// Data of a ram frame that nobody took with [`Reader::read_ram`] are read and checked first.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; the stream cannot be read on after one.
    pub fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        self.drain_ram()?;
        if self.session.is_over() {
            return Ok(None);
        }
        if !self.begun {
            self.begin()?;
        }
        let header = self.header()?;
        let offset = self.session.offset();
        let kind = header.kind().map_err(|broken| self.broken(broken, 0))?;
        let admitted = self.session.admit(&header, kind);
        admitted.map_err(|broken| self.broken(broken, 0))?;
        let event = match kind {
            None => {
                self.pass_over(&header)?;
                self.skipped = self.skipped.saturating_add(1);
                Event::Skipped
            }
            Some(Kind::Pad) => {
                self.pass_over(&header)?;
                Event::Pad
            }
            Some(Kind::Ram) => self.open_ram(&header)?,
            Some(kind) => self.message(kind, &header)?,
        };
        self.frame = Some(Frame { header, offset, number: header.sequence });
        self.session.count(&header);
        Ok(Some(event))
    }

    /// Takes back pages that nobody needs any more: the next frame is read into their place.
    pub fn reuse(&mut self, pages: Pages) {
        self.spare = pages.into_body();
    }

    /// Makes sure that nothing follows the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Rule::F15`]; [`Rule::F14`] if the end has not come.
    pub fn expect_end(&mut self) -> Result<(), ReadError> {
        if !self.session.is_over() {
            return Err(self.broken(Broken::new(Rule::F14), 0));
        }
        let mut byte = [0];
        let got = self.fill(&mut byte, 0)?;
        if got == 0 { Ok(()) } else { Err(self.broken(Broken::new(Rule::F15), 0)) }
    }

    fn begin(&mut self) -> Result<(), ReadError> {
        let mut magic = [0; MAGIC.len()];
        self.fill(&mut magic, 0)?;
        if magic != MAGIC {
            let broken = Broken::new(Rule::F1);
            return Err(ReadError::Broken { frame: 0, broken });
        }
        self.begun = true;
        Ok(())
    }

    fn header(&mut self) -> Result<Header, ReadError> {
        let mut bytes = [0; HEADER_BYTES];
        let got = self.fill(&mut bytes, 0)?;
        if got < HEADER_BYTES {
            let at = u64::try_from(got).unwrap_or(0);
            return Err(self.broken(Broken::new(Rule::F14).at(at), 0));
        }
        Header::decode(&bytes).map_err(|broken| self.broken(broken, 0))
    }

    /// Reads until the buffer is full or the input has ended.
    fn fill(&mut self, mut buffer: &mut [u8], after: u64) -> Result<usize, ReadError> {
        let whole = buffer.len();
        while !buffer.is_empty() {
            match self.input.read(buffer) {
                Ok(0) => break,
                Ok(got) => buffer = buffer.get_mut(got..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.session.offset().saturating_add(after);
                    return Err(ReadError::Io { offset, source });
                }
            }
        }
        Ok(whole - buffer.len())
    }

    /// A broken rule in the frame that is being read, `after` bytes into which the offset counts.
    fn broken(&self, broken: Broken, after: u64) -> ReadError {
        let at = self.session.offset().saturating_add(after).saturating_add(broken.at);
        ReadError::Broken { frame: self.session.frame(), broken: broken.at(at) }
    }
}

/// Bytes of a header as an offset.
const HEADER: u64 = 51;

/// Reads a message, and says which key of the frame is wrong.
fn read<M: Message>(value: crate::value::Value) -> Result<M, Broken> {
    M::from_value(value)
}

const _: () = assert!(HEADER_BYTES == 51 && CHECKED_APART == 8);
