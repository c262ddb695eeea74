//! `manifest`: what the guest can see.

use std::collections::BTreeSet;

use super::{Fields, Message};
use crate::broken::Broken;
use crate::contract::Attribute;
use crate::rule::Rule;
use crate::value::{Map, Value};

/// A region of guest memory. Frames name it by its position in [`Manifest::memory`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// A name of its own.
    pub name: String,
    /// What it is: `ram`, `rom`, `vram`, ….
    pub kind: String,
    /// Size in bytes, a multiple of the page size.
    pub bytes: u64,
    /// Guest-physical address of its first byte, if it has one fixed place.
    pub gpa: Option<u64>,
}

/// A disk whose contents travel along. Frames name it by its position in [`Manifest::disks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A name of its own.
    pub name: String,
    /// Size in bytes, a multiple of the page size.
    pub bytes: u64,
}

/// A device that will have a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredDevice {
    /// Its path.
    pub path: String,
    /// The kind of its record.
    pub kind: String,
    /// Id of the schema, as its frame says.
    pub schema: u32,
}

/// The stream that absent pages are found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The digest in its finish frame.
    pub digest: [u8; 32],
    /// A name to look for it by; a hint only.
    pub name: Option<String>,
}

/// What the guest can see, and what the stream will hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Bytes of a page: a power of two from 512 to 2 MiB.
    pub page_size: u64,
    /// Regions of memory.
    pub memory: Vec<Region>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// All that must agree between source and destination.
    pub contract: Vec<Attribute>,
    /// Every device with a record; none if the writer does not know them ahead.
    pub devices: Option<Vec<DeclaredDevice>>,
    /// Where absent pages are.
    pub parent: Option<Parent>,
}

impl Manifest {
    /// Pages of a region, if there is one of that number.
    #[must_use]
    pub fn region_pages(&self, region: u32) -> Option<u64> {
        let region = self.memory.get(usize::try_from(region).ok()?)?;
        region.bytes.checked_div(self.page_size)
    }

    /// Pages of a disk, if there is one of that number.
    #[must_use]
    pub fn disk_pages(&self, disk: u32) -> Option<u64> {
        let disk = self.disks.get(usize::try_from(disk).ok()?)?;
        disk.bytes.checked_div(self.page_size)
    }

    fn check(&self) -> Result<(), Broken> {
        let page = self.page_size;
        if !page.is_power_of_two() || !(512..=2 << 20).contains(&page) {
            return Err(Broken::new(Rule::M4).path("page_size").found(page));
        }
        let regions = self.memory.iter().map(|region| (region.name.as_str(), region.bytes));
        let disks = self.disks.iter().map(|disk| (disk.name.as_str(), disk.bytes));
        distinct("memory", regions, page)?;
        distinct("disks", disks, page)?;
        let mut seen = BTreeSet::new();
        let repeated = |seen: &mut BTreeSet<_>, attribute: &Attribute| {
            !seen.insert((attribute.path.clone(), attribute.attribute.clone()))
        };
        if let Some(twice) = self.contract.iter().find(|each| repeated(&mut seen, each)) {
            return Err(Broken::new(Rule::M5).path("contract").found(twice.name()));
        }
        let mut paths = BTreeSet::new();
        let twice = self.devices.iter().flatten().find(|device| !paths.insert(&device.path));
        twice.map_or(Ok(()), |device| {
            Err(Broken::new(Rule::M7).path("devices").found(format_args!("{} twice", device.path)))
        })
    }
}

fn distinct<'a>(
    key: &str,
    named: impl Iterator<Item = (&'a str, u64)>,
    page: u64,
) -> Result<(), Broken> {
    let mut seen = BTreeSet::new();
    for (name, bytes) in named {
        if !seen.insert(name) || bytes % page != 0 {
            return Err(Broken::new(Rule::M4)
                .path(key)
                .found(format_args!("{name}, {bytes} bytes")));
        }
    }
    Ok(())
}

impl Message for Manifest {
    fn to_value(&self) -> Value {
        let Self { page_size, memory, disks, contract, devices, parent } = self;
        let mut map = Map::new()
            .with("page_size", *page_size)
            .with("memory", memory.iter().map(region_value).collect::<Vec<_>>())
            .with("contract", contract.iter().map(Message::to_value).collect::<Vec<_>>());
        if !disks.is_empty() {
            map.insert("disks", disks.iter().map(disk_value).collect::<Vec<_>>());
        }
        if let Some(devices) = devices {
            map.insert("devices", devices.iter().map(device_value).collect::<Vec<_>>());
        }
        if let Some(Parent { digest, name }) = parent {
            let mut entry = Map::new().with("digest", Value::Bytes(digest.to_vec()));
            if let Some(name) = name {
                entry.insert("name", name.as_str());
            }
            map.insert("parent", entry);
        }
        Value::Map(map)
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let manifest = Self {
            page_size: fields.uint("page_size")?,
            memory: fields.list("memory", region_from)?,
            disks: fields.optional_list("disks", disk_from)?.unwrap_or_default(),
            contract: fields.list("contract", Attribute::from_value)?,
            devices: fields.optional_list("devices", device_from)?,
            parent: fields
                .maybe("parent")
                .map(|value| parent_from(value).map_err(|broken| broken.below("parent")))
                .transpose()?,
        };
        fields.done()?;
        manifest.check()?;
        Ok(manifest)
    }
}

fn region_value(region: &Region) -> Value {
    let Region { name, kind, bytes, gpa } = region;
    let mut map = Map::new().with("name", name.as_str()).with("kind", kind.as_str());
    map.insert("bytes", *bytes);
    if let Some(gpa) = gpa {
        map.insert("gpa", *gpa);
    }
    Value::Map(map)
}

fn region_from(value: Value) -> Result<Region, Broken> {
    let mut fields = Fields::of(value)?;
    let region = Region {
        name: fields.text("name")?,
        kind: fields.text("kind")?,
        bytes: fields.uint("bytes")?,
        gpa: fields.maybe_uint("gpa")?,
    };
    fields.done()?;
    Ok(region)
}

fn disk_value(Disk { name, bytes }: &Disk) -> Value {
    Value::Map(Map::new().with("name", name.as_str()).with("bytes", *bytes))
}

fn disk_from(value: Value) -> Result<Disk, Broken> {
    let mut fields = Fields::of(value)?;
    let disk = Disk { name: fields.text("name")?, bytes: fields.uint("bytes")? };
    fields.done()?;
    Ok(disk)
}

fn device_value(DeclaredDevice { path, kind, schema }: &DeclaredDevice) -> Value {
    let map = Map::new().with("path", path.as_str()).with("kind", kind.as_str());
    Value::Map(map.with("schema", *schema))
}

fn device_from(value: Value) -> Result<DeclaredDevice, Broken> {
    let mut fields = Fields::of(value)?;
    let device = DeclaredDevice {
        path: fields.path("path")?,
        kind: fields.text("kind")?,
        schema: fields.small("schema")?,
    };
    fields.done()?;
    Ok(device)
}

fn parent_from(value: Value) -> Result<Parent, Broken> {
    let mut fields = Fields::of(value)?;
    let parent = Parent { digest: fields.digest("digest")?, name: fields.maybe_text("name")? };
    fields.done()?;
    Ok(parent)
}
