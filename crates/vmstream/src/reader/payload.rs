//! Payloads that fit into memory.

use std::io::Read;
use std::sync::Arc;

use super::{Event, HEADER, ReadError, Reader, read};
use crate::broken::Broken;
use crate::finding::Finding;
use crate::frame::{COMPRESSED, Header, Kind, PROVISIONAL};
use crate::limits;
use crate::message::{
    Checksums, Fields, Finish, Index, Manifest, Message, Pages, Request, records_from,
};
use crate::rule::Rule;
use crate::schema::Schema;
use crate::value::{Value, decode};

/// How much is read at a time of what nobody keeps.
const STEP: usize = 64 << 10;
/// How much of a payload must have come before all of it is reserved; what is longer is a few times this at most.
const FIRST: usize = 1 << 20;

impl<R: Read> Reader<R> {
    /// Reads a payload and what it says.
    pub(super) fn message(&mut self, kind: Kind, header: &Header) -> Result<Event, ReadError> {
        let payload = self.payload(header)?;
        let event = if matches!(kind, Kind::Pages | Kind::Disk) {
            self.pages(kind, payload)
        } else {
            self.metadata(kind, header, payload)
        };
        event.map_err(|broken| {
            // Offsets in what was inflated mean nothing in the stream.
            let broken = if header.has(COMPRESSED) { broken.at(0) } else { broken };
            self.broken(broken, HEADER)
        })
    }

    fn payload(&mut self, header: &Header) -> Result<Vec<u8>, ReadError> {
        // The kind's limit has been checked; memory is taken as bytes arrive all the same.
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let mut payload = std::mem::take(&mut self.spare);
        payload.truncate(length);
        let first = FIRST.max(payload.len());
        let mut have = 0;
        while have < length {
            let more = (length - have).min(if have == 0 { first } else { length });
            if payload.len() < have + more {
                payload.reserve_exact(have + more - payload.len());
                payload.resize(have + more, 0);
            }
            let after = HEADER.saturating_add(u64::try_from(have).unwrap_or(0));
            let piece = payload.get_mut(have..have + more).unwrap_or_default();
            let got = self.fill(piece, after)?;
            if got < more {
                let at = after.saturating_add(u64::try_from(got).unwrap_or(0));
                return Err(self.broken(Broken::new(Rule::F14).at(at), 0));
            }
            have += more;
        }
        if crc32c::crc32c(&payload) == header.payload_crc {
            return Ok(payload);
        }
        Err(self.broken(Broken::new(Rule::F5), HEADER))
    }

    /// Reads and checks a payload that nobody needs.
    pub(super) fn pass_over(&mut self, header: &Header) -> Result<(), ReadError> {
        let mut buffer = vec![0; STEP];
        let (mut done, mut crc) = (0_u64, 0);
        while done < header.length {
            let left = usize::try_from(header.length - done).unwrap_or(usize::MAX);
            let piece = buffer.get_mut(..left.min(STEP)).unwrap_or_default();
            let want = piece.len();
            let got = self.input_fill(piece, done)?;
            crc = crc32c::crc32c_append(crc, buffer.get(..got).unwrap_or_default());
            done = done.saturating_add(u64::try_from(got).unwrap_or(0));
            if got < want {
                return Err(self.broken(Broken::new(Rule::F14).at(done), HEADER));
            }
        }
        if crc == header.payload_crc {
            return Ok(());
        }
        Err(self.broken(Broken::new(Rule::F5), HEADER))
    }

    fn input_fill(&mut self, piece: &mut [u8], done: u64) -> Result<usize, ReadError> {
        self.fill(piece, HEADER.saturating_add(done))
    }

    fn pages(&mut self, kind: Kind, payload: Vec<u8>) -> Result<Event, Broken> {
        let pages = Pages::from_payload(payload)?;
        self.session.learn_pages(kind, &pages)?;
        Ok(if kind == Kind::Disk { Event::Disk(pages) } else { Event::Pages(pages) })
    }

    fn metadata(&mut self, kind: Kind, header: &Header, payload: Vec<u8>) -> Result<Event, Broken> {
        self.inflated = header.has(COMPRESSED).then(|| inflate(&payload)).transpose()?;
        self.payload = payload;
        if kind == Kind::Tail {
            return self.tail(&self.payload);
        }
        let value = decode(self.metadata_bytes())?;
        let bytes = u64::try_from(self.metadata_bytes().len()).unwrap_or(u64::MAX);
        match kind {
            Kind::Hello => {
                let hello: crate::message::Hello = read(value)?;
                self.session.learn_hello(hello.clone());
                Ok(Event::Hello(hello))
            }
            Kind::Schema => self.learn_schema(value, bytes),
            Kind::Manifest => {
                let manifest: Manifest = read(value)?;
                self.session.learn_manifest(manifest.clone())?;
                Ok(Event::Manifest(manifest))
            }
            Kind::Verdict => read(value).map(Event::Verdict),
            Kind::Switch => read(value).map(Event::Switch),
            Kind::Note => read(value).map(Event::Note),
            Kind::Abort => Finding::from_value(value).map(Event::Abort),
            Kind::Request => requests(value),
            Kind::Device => {
                let records = records_from(value)?;
                let provisional = header.has(PROVISIONAL);
                self.session.learn_records(&records, provisional, bytes)?;
                Ok(if provisional { Event::Provisional(records) } else { Event::Devices(records) })
            }
            Kind::Checksums => {
                let sums: Checksums = read(value)?;
                self.close_ram(&sums)?;
                Ok(Event::Checksums(sums))
            }
            Kind::Finish => {
                let finish: Finish = read(value)?;
                self.session.learn_finish(&finish)?;
                Ok(Event::Finish(finish))
            }
            Kind::Index => {
                let index: Index = read(value)?;
                self.index_at = Some(self.session.offset());
                Ok(Event::Index(index))
            }
            Kind::Pages | Kind::Disk | Kind::Ram | Kind::Pad | Kind::Tail => {
                Err(Broken::new(Rule::M1))
            }
        }
    }

    fn learn_schema(&mut self, value: Value, bytes: u64) -> Result<Event, Broken> {
        let mut fields = Fields::of(value)?;
        let id = fields.small("id")?;
        let document = fields.value("schema")?;
        fields.done()?;
        let schema = Schema::parse(&document).map_err(|broken| broken.below("schema"))?;
        let schema = Arc::new(schema);
        self.session.learn_schema(id, Arc::clone(&schema), document.count(), bytes)?;
        Ok(Event::Schema(id, schema))
    }

    /// The tail holds one integer of fixed width, so that its place is known from the end.
    fn tail(&self, payload: &[u8]) -> Result<Event, Broken> {
        let at = crate::frame::number(payload, 1, 8);
        let right = payload.len() == 9 && payload.first() == Some(&0x1b);
        if right && Some(at) == self.index_at {
            return Ok(Event::Tail(at));
        }
        Err(Broken::new(Rule::I1).found(at))
    }
}

fn requests(value: Value) -> Result<Event, Broken> {
    let items = value.into_list().map_err(|other| Broken::new(Rule::M1).found(other.noun()))?;
    let each =
        |(index, item)| Request::from_value(item).map_err(|broken: Broken| broken.below(index));
    items.into_iter().enumerate().map(each).collect::<Result<_, _>>().map(Event::Request)
}

/// One whole zlib stream of at most 1 MiB.
pub(crate) fn inflate(packed: &[u8]) -> Result<Vec<u8>, Broken> {
    let broken = |found: &str| Broken::new(Rule::F13).found(found);
    let mut inflater = flate2::bufread::ZlibDecoder::new(packed);
    let mut out = Vec::new();
    let most = limits::METADATA.saturating_add(1);
    let read = inflater.by_ref().take(most).read_to_end(&mut out);
    read.map_err(|_| broken("no zlib stream"))?;
    if u64::try_from(out.len()).unwrap_or(u64::MAX) > limits::METADATA {
        return Err(broken("over 1 MiB"));
    }
    if inflater.total_in() != u64::try_from(packed.len()).unwrap_or(u64::MAX) {
        return Err(broken("bytes after the zlib stream"));
    }
    Ok(out)
}
