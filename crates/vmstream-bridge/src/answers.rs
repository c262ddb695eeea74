//! QEMU's return path as a stream of answers, and back.

use std::io::{Read, Write};
use std::sync::OnceLock;

use vmstream::message::{Manifest, Note, Request};
use vmstream::{Event, Map, Reader, Value, Writer};
use vmstream_qemu::{Answer, ReadError, read_answers, write_answer};

use crate::error::BridgeError;
use crate::memory::Memory;

/// The note that has what is no request.
const NOTE: &str = "qemu";

/// Reads what the destination's QEMU says until it shuts its return path, and writes it. Returns what it shut the path
/// with, 0 being success; nothing if it ended without a word.
pub(crate) fn forward<W: Write>(
    mut qemu: impl Read,
    answers: &mut Writer<W>,
    memory: &Memory,
) -> Result<Option<u32>, BridgeError> {
    let mut failed = None;
    let mut shut = None;
    let mut region = None;
    let read = read_answers(&mut qemu, &mut |answer| {
        if let Answer::Shut(code) = answer {
            shut = Some(code);
        }
        write(answer, answers, memory, &mut region).map_err(|error| {
            failed = Some(error);
            std::io::ErrorKind::Other.into()
        })
    });
    match (failed, read) {
        (Some(failed), _) => Err(failed),
        (None, Err(ReadError::Io { .. }) | Ok(())) => Ok(shut),
        (None, Err(error)) => Err(error.into()),
    }
}

fn write<W: Write>(
    answer: Answer,
    answers: &mut Writer<W>,
    memory: &Memory,
    last: &mut Option<u32>,
) -> Result<(), BridgeError> {
    let value = match answer {
        Answer::RequestPages { block, offset, bytes } => {
            if let Some(block) = block {
                *last = memory.region(&block);
            }
            let asked = last.zip(memory.page_size());
            let (region, page) = asked.ok_or(BridgeError::Talk {
                what: "QEMU asks for pages of a block that it lacks",
            })?;
            let pages = |bytes: u64| bytes.checked_div(page).unwrap_or(0);
            let (first, count) = (pages(offset), pages(bytes.into()));
            answers.request(&[Request { region, first, count }])?;
            return Ok(answers.flush()?);
        }
        Answer::Shut(code) => ("shut", Value::from(code)),
        Answer::Pong(number) => ("pong", Value::from(number)),
        Answer::ResumeAck(number) => ("resume-ack", Value::from(number)),
        Answer::SwitchoverAck => ("switchover-ack", Value::Null),
        Answer::ReceivedBitmap { block, bits } => {
            let map = Map::new().with("block", &*block).with("bits", Value::Bytes(bits));
            ("received", Value::Map(map))
        }
        _ => return Err(BridgeError::Talk { what: "QEMU says what is not known here" }),
    };
    let value = Value::Map(Map::new().with(value.0, value.1));
    answers.note(&Note { name: NOTE.to_owned(), value })?;
    Ok(answers.flush()?)
}

/// Reads a stream of answers to its end, and tells the source's QEMU.
pub(crate) fn deliver(
    input: impl Read,
    mut qemu: impl Write,
    manifest: &OnceLock<Manifest>,
) -> Result<(), BridgeError> {
    let mut reader = Reader::new(input);
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Request(wanted) => {
                let none = BridgeError::Talk { what: "it asks for pages before it knows memory" };
                let manifest = manifest.get().ok_or(none)?;
                for each in wanted {
                    let answer = request(each, manifest).ok_or(BridgeError::Talk {
                        what: "it asks for pages that there are not",
                    })?;
                    tell(&mut qemu, &answer)?;
                }
            }
            Event::Note(note) if note.name == NOTE => {
                let broken = BridgeError::Talk { what: "a note of its makes no sense" };
                tell(&mut qemu, &answer(&note.value).ok_or(broken)?)?;
            }
            Event::Abort(finding) => {
                return Err(BridgeError::GaveUp { finding: Box::new(finding) });
            }
            _ => {}
        }
    }
    Ok(())
}

fn request(wanted: Request, manifest: &Manifest) -> Option<Answer> {
    let region = manifest.memory.get(usize::try_from(wanted.region).ok()?)?;
    let offset = wanted.first.checked_mul(manifest.page_size)?;
    let bytes = wanted.count.checked_mul(manifest.page_size)?;
    let is_inside = offset.checked_add(bytes)? <= region.bytes;
    let (block, bytes) = (Some(region.name.as_str().into()), u32::try_from(bytes).ok()?);
    is_inside.then_some(Answer::RequestPages { block, offset, bytes })
}

fn answer(value: &Value) -> Option<Answer> {
    let (name, value) = value.as_map()?.iter().next()?;
    let number = || u32::try_from(value.as_u64()?).ok();
    Some(match name {
        "shut" => Answer::Shut(number()?),
        "pong" => Answer::Pong(number()?),
        "resume-ack" => Answer::ResumeAck(number()?),
        "switchover-ack" => Answer::SwitchoverAck,
        "received" => Answer::ReceivedBitmap {
            block: value.at("block")?.as_text()?.into(),
            bits: value.at("bits")?.as_bytes()?.to_vec(),
        },
        _ => return None,
    })
}

fn tell(qemu: &mut impl Write, answer: &Answer) -> Result<(), BridgeError> {
    match write_answer(qemu, answer) {
        Ok(()) => Ok(()),
        // QEMU hangs up first where it has what it waited for.
        Err(vmstream_qemu::WriteError::Io(_)) => Ok(()),
        Err(error) => Err(vmstream_transcode::Error::from(error).into()),
    }
}
