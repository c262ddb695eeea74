//! Frames put together by hand, so that they can break rules.

use std::io::Read;

use sha2::{Digest, Sha256};
use vmstream::frame::{Header, Kind, MAGIC};
use vmstream::message::{DeviceRecord, Finish, Message, Switch, SwitchMode};
use vmstream::value::encode;
use vmstream::{Map, ReadError, Reader, Rule, Schema, Value};

use crate::sample;

/// A stream that says whatever a test wants.
#[derive(Clone, Default)]
pub(crate) struct Raw {
    pub(crate) out: Vec<u8>,
    pub(crate) sequence: u64,
    pub(crate) epoch: u32,
    pub(crate) channel: u16,
    pub(crate) pages: u64,
    pub(crate) devices: u64,
    headers: Sha256,
}

impl Raw {
    pub(crate) fn new() -> Self {
        Self { out: MAGIC.to_vec(), ..Self::default() }
    }

    /// A frame whose header a test may change before its CRC is made.
    pub(crate) fn frame_with(
        mut self,
        kind: u8,
        flags: u16,
        payload: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header {
            kind,
            flags,
            channel: self.channel,
            sequence: self.sequence,
            epoch: self.epoch,
            length: payload.len() as u64,
            payload_crc: crc32c::crc32c(payload),
        };
        change(&mut header);
        self.sequence += 1;
        self.headers.update(header.encode());
        self.out.extend(header.encode());
        self.out.extend(payload);
        self
    }

    pub(crate) fn frame(self, kind: Kind, flags: u16, payload: &[u8]) -> Self {
        self.frame_with(kind.number(), kind.flags() | flags, payload, |_| ())
    }

    pub(crate) fn value(self, kind: Kind, value: &Value) -> Self {
        self.frame(kind, 0, &encode(value))
    }

    pub(crate) fn message(self, kind: Kind, message: &impl Message) -> Self {
        self.value(kind, &message.to_value())
    }

    /// Device records, final unless flags say otherwise.
    pub(crate) fn records(mut self, flags: u16, records: &[DeviceRecord]) -> Self {
        if flags == 0 {
            self.devices += records.len() as u64;
        }
        let list = Value::List(records.iter().map(Message::to_value).collect());
        self.frame(Kind::Device, flags, &encode(&list))
    }

    pub(crate) fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = epoch;
        self
    }

    /// What a finish frame must say here.
    pub(crate) fn finish_message(&self, follows: u64) -> Finish {
        Finish {
            frames: self.sequence,
            bytes: self.out.len() as u64,
            pages: self.pages,
            devices: self.devices,
            digest: self.headers.clone().finalize().into(),
            follows,
        }
    }

    pub(crate) fn finish(self) -> Self {
        let finish = self.finish_message(0);
        self.message(Kind::Finish, &finish)
    }
}

/// Reads a stream to its end.
pub(crate) fn read_all(input: impl Read) -> Result<u64, ReadError> {
    let mut reader = Reader::new(input);
    let mut events = 0;
    while reader.next_event()?.is_some() {
        events += 1;
    }
    reader.expect_end()?;
    Ok(events)
}

/// The rule by which a stream is refused, the frame and the offset.
pub(crate) fn refusal(stream: &[u8]) -> (Rule, u64, u64) {
    let error = read_all(stream).expect_err("it breaks a rule");
    let ReadError::Broken { frame, broken } = error else { panic!("{error:?}") };
    (broken.rule, frame, broken.at)
}

/// The rule by which what a test says after a beginning is refused.
pub(crate) fn rule(raw: Raw) -> Rule {
    refusal(&raw.finish().out).0
}

/// Hello.
pub(crate) fn greeted() -> Raw {
    Raw::new().message(Kind::Hello, &sample::hello())
}

/// Hello and a schema.
pub(crate) fn described() -> Raw {
    greeted().value(Kind::Schema, &schema_value(0, &sample::schema()))
}

/// Hello, a schema and a manifest.
pub(crate) fn manifested() -> Raw {
    described().message(Kind::Manifest, &sample::manifest(0))
}

/// All but the device's record.
pub(crate) fn switched() -> Raw {
    manifested().epoch(1).message(Kind::Switch, &Switch { mode: SwitchMode::Stopped })
}

/// All but finish.
pub(crate) fn loaded() -> Raw {
    switched().records(0, &[sample::record(0)])
}

pub(crate) fn schema_value(id: u32, schema: &Schema) -> Value {
    Value::Map(Map::new().with("id", id).with("schema", schema.document()))
}
