//! Streams in files: what is wanted is found by the index, or by a scan that reads headers only.
//!
//! ```text
//!   D9D9F7 hello schema* manifest … pad [ram: heads | data at a multiple of the alignment] checksums … finish index tail
//!                                                   ^ may be mapped copy-on-write            60 bytes at the end ^
//! ```
//!
//! Data of a region are trusted chunk by chunk: what has been verified with [`Archive::verify_chunk`] is right, what has not
//! may be anything.

mod scan;
mod sparse;

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::broken::Broken;
use crate::frame::{COMPRESSED, HEADER_BYTES, Header, Kind, number};
use crate::message::{
    Checksums, DeviceRecord, Fields, Finish, Hello, Index, IndexedRam, Manifest, Message,
    RAM_PREFIX_BYTES, Ram, records_from,
};
use crate::reader::{ReadError, inflate};
use crate::rule::Rule;
use crate::schema::Schema;
use crate::session::Session;
use crate::value::{Value, decode};

pub use sparse::Sparse;

/// Bytes of the tail frame.
const TAIL_BYTES: u64 = 60;

/// A stream in a file.
#[derive(Debug)]
pub struct Archive<F> {
    file: F,
    length: u64,
    session: Session,
    index: Index,
    finish: Option<Finish>,
}

/// A frame of metadata, out of the middle of a file.
struct Found {
    header: Header,
    value: Value,
    bytes: u64,
}

impl<F: Read + Seek> Archive<F> {
    /// Opens a stream: by its index if it has one, otherwise as [`Archive::scan`].
    ///
    /// # Errors
    ///
    /// [`ReadError`], for what had to be looked at.
    pub fn open(file: F) -> Result<Self, ReadError> {
        let mut archive = Self::at(file)?;
        match archive.tail()? {
            None => archive.scan_all()?,
            Some(at) => {
                let found = archive.message_at(at, Kind::Index)?;
                archive.index = archive.take(at, &found.header, Index::from_value(found.value))?;
                archive.load_described()?;
            }
        }
        Ok(archive)
    }

    /// Opens a stream by looking at each of its headers, whether it has an index or not.
    ///
    /// # Errors
    ///
    /// [`ReadError`], for headers and metadata; what pages and ram frames hold is not looked at.
    pub fn scan(file: F) -> Result<Self, ReadError> {
        let mut archive = Self::at(file)?;
        archive.scan_all()?;
        Ok(archive)
    }

    fn at(mut file: F) -> Result<Self, ReadError> {
        let length = file.seek(SeekFrom::End(0)).map_err(|source| io_error(0, source))?;
        let (session, index) = (Session::new(), Index::default());
        Ok(Self { file, length, session, index, finish: None })
    }

    /// Who wrote it.
    #[must_use]
    pub const fn hello(&self) -> Option<&Hello> {
        self.session.hello()
    }

    /// What the guest can see.
    #[must_use]
    pub const fn manifest(&self) -> Option<&Manifest> {
        self.session.manifest()
    }

    /// A schema.
    #[must_use]
    pub fn schema(&self, id: u32) -> Option<&Arc<Schema>> {
        self.session.schemas().get(&id)
    }

    /// Where things are.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// The counts and the digest that the stream ends with; not compared with anything.
    #[must_use]
    pub const fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// The file.
    pub fn into_inner(self) -> F {
        self.file
    }

    /// The final record of a device, checked against its schema.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; [`Rule::I2`] if the index leads elsewhere.
    pub fn device(&mut self, path: &str) -> Result<Option<DeviceRecord>, ReadError> {
        let devices = &self.index.devices;
        let Some((_, at)) = devices.iter().find(|(known, _)| known == path) else {
            return Ok(None);
        };
        let at = *at;
        let found = self.message_at(at, Kind::Device)?;
        let records = self.take(at, &found.header, records_from(found.value))?;
        let record = records.into_iter().find(|record| record.path == path);
        let record = record.ok_or_else(|| Broken::new(Rule::I2).found(path));
        let record = self.take(at, &found.header, record)?;
        let checked = self.session.check_record(&record);
        self.take(at, &found.header, checked)?;
        Ok(Some(record))
    }

    /// The checksums of a ram frame.
    ///
    /// # Errors
    ///
    /// [`ReadError`]
    pub fn checksums(&mut self, ram: &IndexedRam) -> Result<Checksums, ReadError> {
        let end = ram.data.checked_add(ram.length);
        let at = end.ok_or_else(|| self.broken(0, ram.frame, Broken::new(Rule::I2)))?;
        let found = self.message_at(at, Kind::Checksums)?;
        let sums = self.take(at, &found.header, Checksums::from_value(found.value))?;
        let right = (sums.region, sums.offset) == (ram.region, ram.offset) && sums.chunk > 0;
        let right = if right { Ok(()) } else { Err(Broken::new(Rule::O7)) };
        self.take(at, &found.header, right)?;
        Ok(sums)
    }

    /// Reads one chunk of a ram frame, gives its bytes to `sink` piece by piece, and checks it.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; [`Rule::R2`] if the bytes are others than were written.
    pub fn verify_chunk(
        &mut self,
        ram: &IndexedRam,
        sums: &Checksums,
        chunk: usize,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), ReadError> {
        let step = u64::from(sums.chunk);
        let start = u64::try_from(chunk).unwrap_or(u64::MAX).saturating_mul(step).min(ram.length);
        let mut left = step.min(ram.length.saturating_sub(start));
        let at = ram.data.saturating_add(start);
        self.seek(at)?;
        let (mut crc, mut buffer) = (0, vec![0; 64 << 10]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..most).unwrap_or_default();
            self.file.read_exact(piece).map_err(|source| io_error(at, source))?;
            crc = crc32c::crc32c_append(crc, piece);
            sink(piece);
            left = left.saturating_sub(u64::try_from(most).unwrap_or(0));
        }
        if sums.crc32c.get(chunk) == Some(&crc) {
            return Ok(());
        }
        let found = format!("region {}, chunk {chunk}", ram.region);
        Err(self.broken(0, at, Broken::new(Rule::R2).found(found)))
    }

    /// Makes sure that the index says what a scan finds.
    ///
    /// # Errors
    ///
    /// [`Rule::I2`], and all that a scan may find.
    pub fn verify_index(&mut self) -> Result<(), ReadError> {
        let told = self.index.clone();
        let mut scanned = Archive::at(&mut self.file)?;
        scanned.scan_all()?;
        if scanned.index == told {
            return Ok(());
        }
        Err(self.broken(0, self.length.saturating_sub(TAIL_BYTES), Broken::new(Rule::I2)))
    }

    /// Offset of the index, if there is a tail.
    fn tail(&mut self) -> Result<Option<u64>, ReadError> {
        let Some(at) = self.length.checked_sub(TAIL_BYTES) else { return Ok(None) };
        self.seek(at)?;
        let mut bytes = [0; HEADER_BYTES + 9];
        self.file.read_exact(&mut bytes).map_err(|source| io_error(at, source))?;
        let header = bytes.first_chunk().map(Header::decode);
        let Some(Ok(header)) = header else { return Ok(None) };
        let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if header.kind != Kind::Tail.number() || crc32c::crc32c(payload) != header.payload_crc {
            return Ok(None);
        }
        let index = number(payload, 1, 8);
        let right = payload.first() == Some(&0x1b) && index < at;
        if right { Ok(Some(index)) } else { Err(self.broken(0, at, Broken::new(Rule::I1))) }
    }

    /// Reads what stands before all devices and pages.
    fn load_described(&mut self) -> Result<(), ReadError> {
        let hello = self.message_at(3, Kind::Hello)?;
        self.learn(3, hello, Kind::Hello)?;
        for (_, at) in self.index.schemas.clone() {
            let schema = self.message_at(at, Kind::Schema)?;
            self.learn(at, schema, Kind::Schema)?;
        }
        let at = self.index.manifest;
        let manifest = self.message_at(at, Kind::Manifest)?;
        self.learn(at, manifest, Kind::Manifest)?;
        let at = self.index.finish;
        let finish = self.message_at(at, Kind::Finish)?;
        self.learn(at, finish, Kind::Finish)
    }

    fn learn(&mut self, at: u64, found: Found, kind: Kind) -> Result<(), ReadError> {
        let Found { header, value, bytes } = found;
        let learnt = if kind == Kind::Hello {
            Hello::from_value(value).map(|hello| self.session.learn_hello(hello))
        } else if kind == Kind::Manifest {
            Manifest::from_value(value).and_then(|manifest| self.session.learn_manifest(manifest))
        } else if kind == Kind::Finish {
            Finish::from_value(value).map(|finish| self.finish = Some(finish))
        } else {
            self.learn_schema(value, bytes)
        };
        self.take(at, &header, learnt)
    }

    fn learn_schema(&mut self, value: Value, bytes: u64) -> Result<(), Broken> {
        let mut fields = Fields::of(value)?;
        let (id, document) = (fields.small("id")?, fields.value("schema")?);
        fields.done()?;
        let schema = Arc::new(Schema::parse(&document)?);
        self.session.learn_schema(id, schema, document.count(), bytes)
    }

    /// A header, with the kind that it must have to be read at all.
    fn header_at(&mut self, at: u64) -> Result<(Header, Option<Kind>), ReadError> {
        let mut bytes = [0; HEADER_BYTES];
        self.seek(at)?;
        self.exact(at, &mut bytes)?;
        let header = Header::decode(&bytes).map_err(|broken| self.broken(0, at, broken))?;
        let kind = self.take(at, &header, header.kind())?;
        Ok((header, kind))
    }

    /// A message that must be of a kind.
    fn message_at(&mut self, at: u64, kind: Kind) -> Result<Found, ReadError> {
        let (header, found) = self.header_at(at)?;
        if found != Some(kind) {
            let found = found.map_or("an unknown kind", Kind::name);
            return Err(self.broken(header.sequence, at, Broken::new(Rule::I2).found(found)));
        }
        self.message(at, header)
    }

    /// The message whose header has just been read.
    fn message(&mut self, at: u64, header: Header) -> Result<Found, ReadError> {
        let after = at.saturating_add(51);
        if self.length.checked_sub(after).is_none_or(|left| left < header.length) {
            return Err(self.broken(header.sequence, self.length, Broken::new(Rule::F14)));
        }
        // No longer than the kind's limit, and than what is there.
        let mut payload = vec![0; usize::try_from(header.length).unwrap_or(0)];
        self.exact(after, &mut payload)?;
        if crc32c::crc32c(&payload) != header.payload_crc {
            return Err(self.broken(header.sequence, after, Broken::new(Rule::F5)));
        }
        let payload = match header.has(COMPRESSED) {
            true => self.take(after, &header, inflate(&payload))?,
            false => payload,
        };
        let value = self.take(after, &header, decode(&payload))?;
        Ok(Found { header, value, bytes: u64::try_from(payload.len()).unwrap_or(u64::MAX) })
    }

    /// What a ram frame is of, its header having just been read.
    fn ram_prefix(&mut self, at: u64, header: &Header) -> Result<Ram, ReadError> {
        let mut prefix = [0; RAM_PREFIX_BYTES];
        self.exact(at.saturating_add(51), &mut prefix)?;
        if crc32c::crc32c(&prefix) != header.payload_crc {
            return Err(self.broken(header.sequence, at, Broken::new(Rule::F5)));
        }
        self.take(at, header, Ram::from_prefix(&prefix, header.length))
    }

    fn seek(&mut self, at: u64) -> Result<(), ReadError> {
        self.file.seek(SeekFrom::Start(at)).map(drop).map_err(|source| io_error(at, source))
    }

    fn exact(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_exact(buffer).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                self.broken(0, self.length, Broken::new(Rule::F14))
            } else {
                io_error(at, source)
            }
        })
    }

    fn take<T>(&self, at: u64, header: &Header, result: Result<T, Broken>) -> Result<T, ReadError> {
        result.map_err(|broken| self.broken(header.sequence, at, broken))
    }

    #[expect(clippy::unused_self, reason = "as its namesake of the reader")]
    fn broken(&self, frame: u64, at: u64, broken: Broken) -> ReadError {
        let at = at.saturating_add(broken.at);
        ReadError::Broken { frame, broken: broken.at(at) }
    }
}

const fn io_error(offset: u64, source: io::Error) -> ReadError {
    ReadError::Io { offset, source }
}
