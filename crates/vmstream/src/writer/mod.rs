//! Writing a stream, frame by frame, to anything that takes bytes.
//!
//! A writer never goes back, and refuses by the same rules as a reader: what it has written, a reader accepts.

mod ram;
mod raw;

use std::io::{self, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::broken::Broken;
use crate::finding::Finding;
use crate::frame::{COMPRESSED, Header, Kind, MAGIC, PROVISIONAL};
use crate::limits;
use crate::message::{
    DeviceRecord, Hello, Index, Manifest, Message, Note, Pages, Request, Switch, Verdict,
    records_from,
};
use crate::piece::Piece;
use crate::rule::Rule;
use crate::schema::Schema;
use crate::session::Session;
use crate::value::{Value, encode, push_head, push_int, push_text};

/// Why a stream could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The output took no more.
    #[error("writing failed at byte {offset}")]
    Io {
        /// Offset of the frame that was being written.
        offset: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// What was to be written breaks a rule. Nothing of it was written.
    #[error("frame {frame} cannot be written")]
    Broken {
        /// Which frame, counted from 0.
        frame: u64,
        /// Which rule, and where in the payload.
        #[source]
        broken: Broken,
    },
}

/// Whether metadata are compressed where that makes them smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// Schemas, manifest, devices and notes are.
    #[default]
    Metadata,
    /// Nothing is.
    Nothing,
}

/// Whether a record is the last of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// A later one replaces it.
    Provisional,
    /// It is.
    Final,
}

/// Writes a stream.
///
/// After an error it can only be dropped: a stream without its finish frame is refused by every reader.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    session: Session,
    channel: u16,
    epoch: u32,
    compress: Compress,
    index: Index,
    /// Whether the last frame was one of pages, so that the next belongs to its group.
    in_pages: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a stream with its hello.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn new(out: W, hello: &Hello) -> Result<Self, WriteError> {
        Self::on_channel(out, hello, 0)
    }

    /// Begins a stream that is one of several of a transfer.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn on_channel(out: W, hello: &Hello, channel: u16) -> Result<Self, WriteError> {
        Self::of_value(out, channel, &hello.to_value())
    }

    fn on_channel_with(out: W, channel: u16, hello: &Value) -> Result<Self, WriteError> {
        let mut writer = Self {
            out,
            session: Session::new(),
            channel,
            epoch: 0,
            compress: Compress::default(),
            index: Index::default(),
            in_pages: false,
        };
        writer.out.write_all(&MAGIC).map_err(|source| WriteError::Io { offset: 0, source })?;
        writer.metadata(Kind::Hello, 0, hello)?;
        Ok(writer)
    }

    /// Says whether metadata are compressed from here on.
    pub const fn compress(&mut self, compress: Compress) {
        self.compress = compress;
    }

    /// Offset of the next frame, bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.session.offset()
    }

    /// The epoch of the next frame.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Begins the next pass over memory.
    pub const fn next_epoch(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Goes on to a later pass over memory, by its number; an earlier one changes nothing.
    pub const fn to_epoch(&mut self, epoch: u32) {
        if epoch > self.epoch {
            self.epoch = epoch;
        }
    }

    /// Writes a schema, unless the stream has it, and hands out its id.
    ///
    /// # Errors
    ///
    /// [`WriteError`], by the rules `S-…` too.
    pub fn schema(&mut self, schema: &Schema) -> Result<u32, WriteError> {
        let known = self.session.schemas().iter().find(|(_, known)| known.as_ref() == schema);
        if let Some((id, _)) = known {
            return Ok(*id);
        }
        let next =
            self.session.schemas().last_key_value().map_or(0, |(id, _)| id.saturating_add(1));
        self.schema_as(next, schema)?;
        Ok(next)
    }

    /// Writes a schema under an id.
    ///
    /// # Errors
    ///
    /// As [`Writer::schema`]; [`Rule::O2`] if the id is taken.
    pub fn schema_as(&mut self, id: u32, schema: &Schema) -> Result<(), WriteError> {
        self.check(schema.check())?;
        debug_assert_eq!(Schema::parse(&schema.document()).as_ref(), Ok(schema), "it is read so");
        if self.session.schemas().contains_key(&id) {
            return Err(self.broken(Broken::new(Rule::O2).path("id").found(id)));
        }
        let document = schema.encoded();
        let values = document.values;
        if !document.fits(1, 2) {
            return Err(self.broken(Broken::new(Rule::V8)));
        }
        let mut bytes = Vec::with_capacity(document.bytes.len().saturating_add(16));
        push_head(&mut bytes, 5, 2);
        push_text(&mut bytes, "id");
        push_int(&mut bytes, i128::from(id));
        push_text(&mut bytes, "schema");
        bytes.extend_from_slice(&document.bytes);
        self.check_length(&bytes)?;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let offset = self.offset();
        self.packed(Kind::Schema, 0, &bytes)?;
        let learnt = self.session.learn_schema(id, Arc::new(schema.clone()), values, count);
        self.check(learnt)?;
        self.index.schemas.push((id, offset));
        Ok(())
    }

    /// Writes the manifest.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn manifest(&mut self, manifest: &Manifest) -> Result<(), WriteError> {
        let value = manifest.to_value();
        let again = self.check(Manifest::from_value(value.clone()))?;
        let offset = self.offset();
        self.metadata(Kind::Manifest, 0, &value)?;
        let learnt = self.session.learn_manifest(again);
        self.check(learnt)?;
        self.index.manifest = offset;
        Ok(())
    }

    /// Writes a verdict: as an answer, or to keep what was said.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn verdict(&mut self, verdict: &Verdict) -> Result<(), WriteError> {
        self.metadata(Kind::Verdict, 0, &verdict.to_value())
    }

    /// Writes pages of memory.
    ///
    /// # Errors
    ///
    /// [`WriteError`], by the rules `P-…` too.
    pub fn pages(&mut self, pages: &Pages) -> Result<(), WriteError> {
        self.bulk(Kind::Pages, pages)
    }

    /// Writes pages of a disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`], by the rules `P-…` too.
    pub fn disk(&mut self, pages: &Pages) -> Result<(), WriteError> {
        self.bulk(Kind::Disk, pages)
    }

    /// Says that the machine has stopped. The epoch rises by itself.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn switch(&mut self, switch: &Switch) -> Result<(), WriteError> {
        if self.epoch <= self.session.epoch() {
            self.epoch = self.session.epoch().saturating_add(1);
        }
        self.metadata(Kind::Switch, 0, &switch.to_value())
    }

    /// Writes device records. Fields at their defaults are left out.
    ///
    /// # Errors
    ///
    /// [`WriteError`], by the rules `D-…` too.
    pub fn devices(
        &mut self,
        records: &[DeviceRecord],
        finality: Finality,
    ) -> Result<(), WriteError> {
        let sent = |record: &DeviceRecord| {
            let schema = self.session.schemas().get(&record.schema);
            let state = schema.map(|schema| schema.strip(&record.state));
            record.value_with(state.unwrap_or_else(|| record.state.clone()))
        };
        let value = Value::List(records.iter().map(sent).collect());
        let bytes = self.encoded(&value)?;
        // Read back as a reader would, so that what it would refuse is not written.
        let records = self.check(records_from(value))?;
        let provisional = finality == Finality::Provisional;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let learnt = self.session.learn_records(&records, provisional, count);
        self.check(learnt)?;
        let offset = self.offset();
        self.packed(Kind::Device, if provisional { PROVISIONAL } else { 0 }, &bytes)?;
        if !provisional {
            let paths = records.into_iter().map(|record| (record.path, offset));
            self.index.devices.extend(paths);
        }
        Ok(())
    }

    /// Writes a note.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn note(&mut self, note: &Note) -> Result<(), WriteError> {
        self.metadata(Kind::Note, 0, &note.to_value())
    }

    /// Asks for pages, in an answer.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn request(&mut self, wanted: &[Request]) -> Result<(), WriteError> {
        let wanted = Value::List(wanted.iter().map(Message::to_value).collect());
        self.metadata(Kind::Request, 0, &wanted)
    }

    /// Gives up, and says why. Nothing can be written after it.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn abort(&mut self, why: &Finding) -> Result<(), WriteError> {
        self.metadata(Kind::Abort, 0, &why.to_value())?;
        self.flush()
    }

    /// Writes filler of so many bytes.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn pad(&mut self, filler: usize) -> Result<(), WriteError> {
        if u64::try_from(filler).unwrap_or(u64::MAX) > limits::PAD {
            return Err(self.broken(Broken::new(Rule::F6).found(filler)));
        }
        self.frame(Kind::Pad, 0, &vec![0; filler])
    }

    /// Ends the stream, and hands out the output and the digest that names the stream.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; [`Rule::D6`] if a declared device has no record.
    pub fn finish(mut self) -> Result<(W, [u8; 32]), WriteError> {
        let digest = self.write_finish(0)?;
        self.flush()?;
        Ok((self.out, digest))
    }

    /// Ends the stream with an index, for readers that can seek.
    ///
    /// # Errors
    ///
    /// As [`Writer::finish`].
    pub fn finish_with_index(mut self) -> Result<(W, [u8; 32]), WriteError> {
        self.index.finish = self.offset();
        self.index.order_devices();
        let index = self.index.to_value();
        // An index that is too large for a frame would be worth less than a scan.
        let bytes = u64::try_from(encode(&index).len()).unwrap_or(u64::MAX);
        if bytes > limits::METADATA || !index.fits() {
            return self.finish();
        }
        let digest = self.write_finish(2)?;
        let at = self.offset();
        self.metadata(Kind::Index, 0, &index)?;
        let mut tail = vec![0x1b];
        tail.extend_from_slice(&at.to_be_bytes());
        self.frame(Kind::Tail, 0, &tail)?;
        self.flush()?;
        Ok((self.out, digest))
    }

    fn write_finish(&mut self, follows: u64) -> Result<[u8; 32], WriteError> {
        self.check(self.session.check_complete())?;
        let finish = self.session.finish(follows);
        self.metadata(Kind::Finish, 0, &finish.to_value())?;
        self.session.end(follows);
        Ok(finish.digest)
    }

    fn bulk(&mut self, kind: Kind, pages: &Pages) -> Result<(), WriteError> {
        let learnt = self.session.learn_pages(kind, pages);
        self.check(learnt)?;
        let (offset, grouped) = (self.offset(), self.in_pages);
        let parts = [pages.head(), pages.stored()];
        self.frame_of(kind, 0, &parts)?;
        match self.index.pages.last_mut() {
            Some((_, count)) if grouped => *count = count.saturating_add(1),
            _ => self.index.pages.push((offset, 1)),
        }
        self.in_pages = true;
        Ok(())
    }

    /// Writes a value as a frame, compressed if that is asked for and pays.
    fn metadata(&mut self, kind: Kind, flags: u16, value: &Value) -> Result<(), WriteError> {
        let bytes = self.encoded(value)?;
        self.packed(kind, flags, &bytes)
    }

    /// The bytes of a value that a frame can hold.
    fn encoded(&self, value: &Value) -> Result<Vec<u8>, WriteError> {
        if !value.fits() {
            return Err(self.broken(Broken::new(Rule::V8)));
        }
        let bytes = encode(value);
        self.check_length(&bytes)?;
        Ok(bytes)
    }

    fn check_length(&self, metadata: &[u8]) -> Result<(), WriteError> {
        let is_over = u64::try_from(metadata.len()).unwrap_or(u64::MAX) > limits::METADATA;
        let broken = || self.broken(Broken::new(Rule::F6).found(metadata.len()));
        if is_over { Err(broken()) } else { Ok(()) }
    }

    /// Writes the bytes of a value as a frame.
    fn packed(&mut self, kind: Kind, flags: u16, bytes: &[u8]) -> Result<(), WriteError> {
        if self.compress == Compress::Metadata && kind.allowed() & COMPRESSED != 0 {
            let packed = deflate(bytes);
            if packed.len() < bytes.len() {
                return self.frame(kind, flags | COMPRESSED, &packed);
            }
        }
        self.frame(kind, flags, bytes)
    }

    /// Writes a frame whose payload is at hand.
    fn frame(&mut self, kind: Kind, flags: u16, payload: &[u8]) -> Result<(), WriteError> {
        self.frame_of(kind, flags, &[payload])
    }

    /// Writes a frame whose payload is at hand in pieces.
    fn frame_of(&mut self, kind: Kind, flags: u16, parts: &[&[u8]]) -> Result<(), WriteError> {
        let length = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        let header = self.begin_frame(kind, flags, length, crc)?;
        parts.iter().try_for_each(|part| self.put(part))?;
        self.session.count(&header);
        Ok(())
    }

    /// Checks that a frame may come, and writes its header.
    fn begin_frame(
        &mut self,
        kind: Kind,
        flags: u16,
        length: u64,
        payload_crc: u32,
    ) -> Result<Header, WriteError> {
        let header = Header {
            kind: kind.number(),
            flags: flags | kind.flags(),
            channel: self.channel,
            sequence: self.session.frame(),
            epoch: self.epoch,
            length,
            payload_crc,
        };
        self.check(header.kind())?;
        let admitted = self.session.admit(&header, Some(kind));
        self.check(admitted)?;
        self.in_pages = false;
        self.put(&header.encode())?;
        Ok(header)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let offset = self.session.offset();
        let mut pieces = bytes.chunks(Piece::BEST);
        let written = pieces.try_for_each(|piece| self.out.write_all(piece));
        written.map_err(|source| WriteError::Io { offset, source })
    }

    /// Makes the output hand on what it holds back.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`]
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let offset = self.session.offset();
        self.out.flush().map_err(|source| WriteError::Io { offset, source })
    }

    fn check<T>(&self, result: Result<T, Broken>) -> Result<T, WriteError> {
        result.map_err(|broken| self.broken(broken))
    }

    fn broken(&self, broken: Broken) -> WriteError {
        WriteError::Broken { frame: self.session.frame(), broken }
    }
}

/// A zlib stream of bytes. Level 2: of device state, 6 makes 3 % less in twice the time, and the guest stands meanwhile.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::new(2));
    match packer.write_all(bytes).and_then(|()| packer.finish()) {
        Ok(packed) => packed,
        // Memory takes all that is written to it; if not, this is no shorter and goes uncompressed.
        Err(_) => bytes.to_vec(),
    }
}
