//! QEMU's own description of the device state, which follows the stream as JSON.

use std::borrow::Cow;

use crate::error::{Broken, Rule};
use crate::json::Json;
use crate::tree::Name;

/// What QEMU says about the sections it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Bytes of a target page.
    pub page_bytes: u64,
    /// The sections, in stream order.
    pub devices: Vec<DescribedDevice>,
}

/// What QEMU says about one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedDevice {
    /// The section's name.
    pub name: Box<str>,
    /// Its instance.
    pub instance_id: u32,
    /// What its body holds.
    pub shape: Shape,
}

/// Fields, then subsections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// QEMU's name for it; empty for the body of an old-style section.
    pub name: Name,
    /// The version that was written.
    pub version: u32,
    /// The fields that were written.
    pub fields: Vec<DescribedField>,
    /// The subsections that were written.
    pub subsections: Vec<Shape>,
}

/// What QEMU says about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedField {
    /// Its name.
    pub name: Name,
    /// QEMU's name of its type.
    pub type_name: Name,
    /// Bytes of it, or of the first item of an array.
    pub bytes: u64,
    /// Which item of an array this is, where each is described.
    pub index: Option<u32>,
    /// How many items there are, where the first speaks for all.
    pub array_len: Option<u32>,
    /// What it holds: one for a structure, one per item (and key) for a list.
    pub shapes: Vec<Shape>,
}

impl Description {
    /// Reads the JSON; `offset` is where it begins in the stream.
    ///
    /// # Errors
    ///
    /// When it is not JSON, or not of QEMU's form.
    pub fn parse(json: &[u8], offset: u64) -> Result<Self, Broken> {
        let json = Json::parse(json, offset)?;
        Self::from_json(&json).ok_or_else(|| Broken::at(offset, Rule::Description))
    }

    fn from_json(json: &Json<'_>) -> Option<Self> {
        let page_bytes = match json.get("page_size") {
            Some(size) => u64::try_from(size.int()?).ok()?,
            None => 4096,
        };
        let devices = json.get("devices")?.items().iter().map(device).collect::<Option<_>>()?;
        Some(Self { page_bytes, devices })
    }
}

fn device(json: &Json<'_>) -> Option<DescribedDevice> {
    Some(DescribedDevice {
        name: json.get("name")?.text()?.into(),
        instance_id: u32::try_from(json.get("instance_id")?.int()?).ok()?,
        shape: shape(json.members())?,
    })
}

/// What stands between one `vmsd_name` and the next.
fn shape(members: &[(Cow<'_, str>, Json<'_>)]) -> Option<Shape> {
    let mut read = Shape::default();
    for (name, value) in members {
        match &**name {
            "vmsd_name" => read.name = owned(value)?,
            "version" => read.version = u32::try_from(value.int()?).ok()?,
            "fields" => read.fields = value.items().iter().map(field).collect::<Option<_>>()?,
            "subsections" => {
                let subsections = value.items().iter().map(|sub| shape(sub.members()));
                read.subsections = subsections.collect::<Option<_>>()?;
            }
            _ => {}
        }
    }
    Some(read)
}

fn field(json: &Json<'_>) -> Option<DescribedField> {
    let count = |name| match json.get(name) {
        Some(value) => u32::try_from(value.int()?).ok().map(Some),
        None => Some(None),
    };
    Some(DescribedField {
        name: owned(json.get("name")?)?,
        type_name: type_name(json.get("type")?.text()?),
        bytes: u64::try_from(json.get("size")?.int()?).ok()?,
        index: count("index")?,
        array_len: count("array_len")?,
        shapes: shapes(json)?,
    })
}

/// The structure of a field, or those of a list's items, which stand in the field itself under one name each.
fn shapes(json: &Json<'_>) -> Option<Vec<Shape>> {
    if let Some(inner) = json.get("struct") {
        return Some(vec![shape(inner.members())?]);
    }
    let members = json.members();
    let starts: Vec<_> = members
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| **name == *"vmsd_name")
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().copied().skip(1).chain([members.len()]);
    let parts = starts.iter().copied().zip(ends);
    parts.map(|(start, end)| shape(members.get(start..end)?)).collect()
}

/// Types that most fields are of.
const USUAL: [&str; 14] = [
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "buffer",
    "struct",
    "timer",
    "unused_buffer",
    "nullptr",
];

/// The name of a type, which every field of that type has without a copy if it is a usual one.
fn type_name(name: &str) -> Name {
    let usual = USUAL.into_iter().find(|usual| *usual == name);
    usual.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed)
}

fn owned(json: &Json<'_>) -> Option<Name> {
    Some(Cow::Owned(json.text()?.to_owned()))
}
