//! The configuration section: the machine type, and what a destination must agree to.
//!
//! Source: QEMU, `migration/savevm.c`, `vmstate_configuration`.

use crate::cursor::Cursor;
use crate::decoder::{Decoder, Read};
use crate::element::SUBSECTION;
use crate::error::{Broken, ReadError, Rule};
use crate::input::Input;
use crate::tree::Structure;

/// The longest machine name that is read.
const NAME_BYTES: u64 = 4096;
/// Capabilities that are read; QEMU lists at most two.
const CAPABILITIES: u32 = 256;

/// What of it the rest of the stream depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) page_bits: Option<u64>,
    pub(crate) ignore_shared: bool,
    pub(crate) mapped_ram: bool,
}

/// Reads the body behind the section's first byte.
pub(crate) fn read(input: &mut Input<'_>) -> Result<Structure, ReadError> {
    let offset = input.offset();
    let bytes = collect(input)?;
    let mut decoder = Decoder::new(Cursor::new(&bytes, offset));
    decode(&mut decoder)?;
    Ok(decoder.finish("configuration", 1))
}

/// The body's bytes: its length is known only by reading it.
fn collect(input: &mut Input<'_>) -> Result<Vec<u8>, ReadError> {
    let length = input.be32()?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(input.vec(length.into(), NAME_BYTES)?);
    while input.peek_u8()? == SUBSECTION {
        let start = input.offset();
        input.consume(1);
        let name = input.counted()?;
        bytes.push(SUBSECTION);
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend(input.vec(4, 4)?);
        match &*name {
            "configuration/target-page-bits" => bytes.extend(input.vec(4, 4)?),
            "configuration/uuid" => bytes.extend(input.vec(16, 16)?),
            "configuration/capabilities" => capabilities(input, &mut bytes)?,
            _ => return Err(Broken::at(start, Rule::Configuration).name(name).into()),
        }
    }
    Ok(bytes)
}

fn capabilities(input: &mut Input<'_>, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
    let start = input.offset();
    let count = input.be32()?;
    if count > CAPABILITIES {
        return Err(Broken::at(start, Rule::Length).found(count).want(CAPABILITIES).into());
    }
    bytes.extend_from_slice(&count.to_be_bytes());
    for _ in 0..count {
        let name = input.counted()?;
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name.as_bytes());
    }
    Ok(())
}

fn decode(decoder: &mut Decoder<'_>) -> Read {
    let length = decoder.u32("len")?;
    decoder.bytes("name", length)?;
    decoder.subsections("configuration", |sub, name| match name {
        "configuration/target-page-bits" => sub.u32("target_page_bits").map(drop),
        "configuration/uuid" => sub.bytes("uuid", 16).map(drop),
        _ => {
            let count = sub.u32("caps_count")?;
            for _ in 0..count {
                sub.structure(("capability", "capability"), |capability| {
                    let length = capability.u8("len")?;
                    capability.bytes("name", length).map(drop)
                })?;
            }
            Ok(())
        }
    })
}

/// The name of the machine type.
#[must_use]
pub fn machine(configuration: &Structure) -> Option<&str> {
    bytes_of(configuration, "name").and_then(|name| str::from_utf8(name).ok())
}

/// The capabilities that a destination must have on too.
pub fn agreed_capabilities(configuration: &Structure) -> impl Iterator<Item = &str> {
    let fields = configuration.subsection("capabilities").map_or(&[][..], |sub| &sub.fields);
    let names = fields.iter().filter_map(|field| bytes_of(field.value.as_structure()?, "name"));
    names.filter_map(|name| str::from_utf8(name).ok())
}

fn bytes_of<'t>(structure: &'t Structure, name: &str) -> Option<&'t [u8]> {
    structure.field(name)?.value.as_bytes()
}

pub(crate) fn facts(configuration: &Structure) -> Facts {
    let page_bits = configuration.subsection("target-page-bits");
    let page_bits = page_bits.and_then(|sub| sub.field("target_page_bits"));
    let has = |wanted| agreed_capabilities(configuration).any(|name| name == wanted);
    Facts {
        page_bits: page_bits.and_then(|field| field.value.as_unsigned()),
        ignore_shared: has("x-ignore-shared"),
        mapped_ram: has("mapped-ram"),
    }
}
