//! The smaller messages: verdict, switch, note, request, finish, index.

use super::{Fields, Message};
use crate::broken::Broken;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::value::{Map, Value, key_order};

/// What a destination says to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it takes the machine.
    pub accepted: bool,
    /// All differences, those that refuse and those that do not.
    pub findings: Vec<Finding>,
}

impl Message for Verdict {
    fn to_value(&self) -> Value {
        let findings: Vec<_> = self.findings.iter().map(Message::to_value).collect();
        Value::Map(Map::new().with("accepted", self.accepted).with("findings", findings))
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let accepted = fields.bool("accepted")?;
        let findings = fields.list("findings", Finding::from_value)?;
        fields.done()?;
        Ok(Self { accepted, findings })
    }
}

/// How the machine goes on after the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchMode {
    /// It has stopped at the source until all has arrived.
    Stopped,
    /// It runs at the destination as soon as its devices are there; pages follow.
    Postcopy,
}

/// The machine has stopped at the source; what follows is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// How it goes on.
    pub mode: SwitchMode,
}

impl Message for Switch {
    fn to_value(&self) -> Value {
        let mode = match self.mode {
            SwitchMode::Stopped => "stopped",
            SwitchMode::Postcopy => "postcopy",
        };
        Value::Map(Map::new().with("mode", mode))
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let mode = match fields.text("mode")?.as_str() {
            "stopped" => SwitchMode::Stopped,
            "postcopy" => SwitchMode::Postcopy,
            other => return Err(Broken::new(Rule::M1).path("mode").found(other)),
        };
        fields.done()?;
        Ok(Self { mode })
    }
}

/// Something that no reader needs: what a transcoder keeps to write another format back, for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub name: String,
    /// The thing itself.
    pub value: Value,
}

impl Message for Note {
    fn to_value(&self) -> Value {
        Value::Map(Map::new().with("name", self.name.as_str()).with("value", self.value.clone()))
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let note = Self { name: fields.text("name")?, value: fields.value("value")? };
        fields.done()?;
        Ok(note)
    }
}

/// Pages that a destination waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// In which region.
    pub region: u32,
    /// The first page.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Message for Request {
    fn to_value(&self) -> Value {
        let map = Map::new().with("region", self.region).with("first", self.first);
        Value::Map(map.with("count", self.count))
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let region = fields.small("region")?;
        let request = Self { region, first: fields.uint("first")?, count: fields.uint("count")? };
        fields.done()?;
        Ok(request)
    }
}

/// Counts, and the digest that the stream is named by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Frames before this one.
    pub frames: u64,
    /// Bytes before this one, those that make the stream CBOR included.
    pub bytes: u64,
    /// Pages that were said something about, in frames of pages and disks and in ram frames.
    pub pages: u64,
    /// Final device records.
    pub devices: u64,
    /// SHA-256 of the headers of all frames before this one.
    pub digest: [u8; 32],
    /// Frames after this one: 0, or 2 for index and tail.
    pub follows: u64,
}

impl Message for Finish {
    fn to_value(&self) -> Value {
        let Self { frames, bytes, pages, devices, digest, follows } = self;
        let map = Map::new().with("frames", *frames).with("bytes", *bytes).with("pages", *pages);
        let map = map.with("devices", *devices).with("digest", Value::Bytes(digest.to_vec()));
        Value::Map(map.with("follows", *follows))
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let finish = Self {
            frames: fields.uint("frames")?,
            bytes: fields.uint("bytes")?,
            pages: fields.uint("pages")?,
            devices: fields.uint("devices")?,
            digest: fields.digest("digest")?,
            follows: fields.uint("follows")?,
        };
        fields.done()?;
        if finish.follows == 0 || finish.follows == 2 {
            return Ok(finish);
        }
        Err(Broken::new(Rule::M1).path("follows").found(finish.follows))
    }
}

/// Where the bytes of a ram frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedRam {
    /// Offset of the frame.
    pub frame: u64,
    /// Offset of the first byte of data.
    pub data: u64,
    /// Which region.
    pub region: u32,
    /// Offset in the region.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Where things are. All offsets are bytes from the start of the stream to a frame's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The manifest.
    pub manifest: u64,
    /// Schemas: id and offset.
    pub schemas: Vec<(u32, u64)>,
    /// Final device records: path and offset of the frame that holds it.
    pub devices: Vec<(String, u64)>,
    /// Ram frames.
    pub ram: Vec<IndexedRam>,
    /// Frames of pages and disks that lie together: offset of the first, and how many.
    pub pages: Vec<(u64, u64)>,
    /// The finish frame.
    pub finish: u64,
}

impl Index {
    /// Puts devices in the order that they have in a stream, where they are the keys of a map.
    pub(crate) fn order_devices(&mut self) {
        self.devices.sort_by(|(left, _), (right, _)| key_order(left, right));
    }
}

impl Message for Index {
    fn to_value(&self) -> Value {
        let Self { manifest, schemas, devices, ram, pages, finish } = self;
        let pair = |(left, right): &(u64, u64)| Value::List(vec![(*left).into(), (*right).into()]);
        let devices: Map =
            devices.iter().map(|(path, offset)| (path.clone(), Value::from(*offset))).collect();
        let ram = ram.iter().map(|each| {
            let IndexedRam { frame, data, region, offset, length } = *each;
            let numbers = [frame, data, region.into(), offset, length];
            Value::List(numbers.into_iter().map(Value::from).collect())
        });
        let schemas = schemas.iter().map(|(id, at)| pair(&(u64::from(*id), *at)));
        let map = Map::new()
            .with("manifest", *manifest)
            .with("schemas", schemas.collect::<Vec<_>>())
            .with("devices", devices)
            .with("ram", ram.collect::<Vec<_>>())
            .with("pages", pages.iter().map(pair).collect::<Vec<_>>())
            .with("finish", *finish);
        Value::Map(map)
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let devices = fields.value("devices")?.into_map();
        let devices = devices
            .map_err(|other| Broken::new(Rule::M1).path("devices").found(other.noun()))?
            .into_iter()
            .map(device)
            .collect::<Result<_, _>>()?;
        let index = Self {
            manifest: fields.uint("manifest")?,
            schemas: fields.list("schemas", |value| {
                let [id, at] = numbers(&value)?;
                Ok((narrow(id)?, at))
            })?,
            devices,
            ram: fields.list("ram", |value| {
                let [frame, data, region, offset, length] = numbers(&value)?;
                Ok(IndexedRam { frame, data, region: narrow(region)?, offset, length })
            })?,
            pages: fields.list("pages", |value| numbers(&value).map(|[at, count]| (at, count)))?,
            finish: fields.uint("finish")?,
        };
        fields.done()?;
        Ok(index)
    }
}

fn device((path, offset): (String, Value)) -> Result<(String, u64), Broken> {
    match offset.as_u64() {
        Some(offset) => Ok((path, offset)),
        None => Err(Broken::new(Rule::M1).path("devices").found(offset.noun())),
    }
}

fn numbers<const N: usize>(value: &Value) -> Result<[u64; N], Broken> {
    let items = value.as_list().unwrap_or_default();
    let numbers: Option<Vec<u64>> = items.iter().map(Value::as_u64).collect();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| Broken::new(Rule::M1).found(value.noun()))
}

fn narrow(number: u64) -> Result<u32, Broken> {
    u32::try_from(number).map_err(|_| Broken::new(Rule::M1).found(number))
}
