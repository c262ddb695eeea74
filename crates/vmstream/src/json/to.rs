//! A stream into lines.

use std::io::{Read, Write};

use serde_json::{Map as Object, Value as Json, json};

use super::JsonError;
use super::project::{plain, value_to_json};
use crate::frame::{COMPRESSED, Kind, PROVISIONAL};
use crate::reader::{Event, Reader};
use crate::schema::hex;
use crate::value::{Value, decode};
use crate::writer::deflate;

/// Bytes of memory on one line.
const PIECE: usize = 32 << 10;

/// Writes a stream as JSON, a frame a line.
///
/// # Errors
///
/// [`JsonError`]
pub fn to_json(input: impl Read, mut out: impl Write) -> Result<(), JsonError> {
    let mut reader = Reader::new(input);
    let mut pad = None;
    while let Some(event) = reader.next_event()? {
        let Some(frame) = reader.frame().copied() else { continue };
        let mut line = begin(&frame.header);
        // Filler that aligns the data of a ram frame follows from the alignment.
        if let Some((length, filler)) = pad.take() {
            let aligned = frame.offset.saturating_add(80);
            let natural = 1_u64 << aligned.trailing_zeros().min(21);
            if !matches!(event, Event::Ram(_)) || length >= natural {
                write_line(&mut out, filler)?;
            }
        }
        let payload = match event {
            Event::Pad => {
                line.insert("length".to_owned(), frame.header.length.into());
                pad = Some((frame.header.length, line));
                continue;
            }
            Event::Skipped => return Err(JsonError::UnknownKind { frame: frame.number }),
            Event::Pages(pages) | Event::Disk(pages) => {
                line.insert("data".to_owned(), hex(pages.stored()).into());
                value_to_json(&pages.meta())
            }
            Event::Ram(ram) => {
                let align = 1_u64 << frame.offset.saturating_add(80).trailing_zeros().min(21);
                line.insert("align".to_owned(), align.into());
                json!({"region": ram.region, "offset": ram.offset, "chunk": ram.chunk, "length": ram.length})
            }
            Event::Schema(..) => {
                with_plain(&decode(reader.metadata_bytes()).unwrap_or(Value::Null), "schema")
            }
            Event::Provisional(_) | Event::Devices(_) => {
                let value = decode(reader.metadata_bytes()).unwrap_or(Value::Null);
                let records = value.as_list().unwrap_or_default();
                Json::Array(records.iter().map(|record| with_plain(record, "state")).collect())
            }
            Event::Hello(_)
            | Event::Manifest(_)
            | Event::Verdict(_)
            | Event::Checksums(_)
            | Event::Switch(_)
            | Event::Note(_)
            | Event::Request(_)
            | Event::Abort(_)
            | Event::Finish(_)
            | Event::Index(_)
            | Event::Tail(_) => {
                value_to_json(&decode(reader.metadata_bytes()).unwrap_or(Value::Null))
            }
        };
        line.insert("payload".to_owned(), payload);
        if frame.header.has(COMPRESSED)
            && deflate(reader.metadata_bytes()) != reader.payload_bytes()
        {
            line.insert("packed".to_owned(), hex(reader.payload_bytes()).into());
        }
        write_line(&mut out, line)?;
        if frame.header.kind == Kind::Ram.number() {
            ram_lines(&mut reader, &mut out)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn begin(header: &crate::frame::Header) -> Object<String, Json> {
    let mut line = Object::new();
    let name = Kind::of(header.kind).map_or("unknown", Kind::name);
    line.insert("kind".to_owned(), name.into());
    if header.channel != 0 {
        line.insert("channel".to_owned(), header.channel.into());
    }
    line.insert("epoch".to_owned(), header.epoch.into());
    for (flag, word) in [(PROVISIONAL, "provisional"), (COMPRESSED, "compressed")] {
        if header.has(flag) {
            line.insert(word.to_owned(), true.into());
        }
    }
    line
}

/// A map as JSON with escapes, but one value of it as its schema describes it.
fn with_plain(value: &Value, key: &str) -> Json {
    let map = value.as_map().cloned().unwrap_or_default();
    let json = map.iter().map(|(name, value)| {
        let json = if name == key { plain(value) } else { value_to_json(value) };
        (name.to_owned(), json)
    });
    Json::Object(json.collect())
}

fn ram_lines<R: Read>(reader: &mut Reader<R>, out: &mut impl Write) -> Result<(), JsonError> {
    let mut buffer = vec![0; PIECE];
    loop {
        let got = reader.read_ram(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        let data = hex(buffer.get(..got).unwrap_or_default());
        write_line(out, Object::from_iter([("data".to_owned(), Json::String(data))]))?;
    }
}

fn write_line(out: &mut impl Write, line: Object<String, Json>) -> Result<(), JsonError> {
    serde_json::to_writer(&mut *out, &Json::Object(line)).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}
