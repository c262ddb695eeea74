//! State that QEMU's description calls by a name and says no more about.
//!
//! Each layout is read strictly: it is believed only if it fills its bytes exactly. Otherwise the bytes stay what
//! they were, opaque.

mod gpu;
mod pci;
mod virtio;
mod virtio_class;

use crate::cursor::Cursor;
use crate::decoder::{Decoder, Read};
use crate::element::SectionHead;
use crate::tree::{Framing, Kind, List, Structure, Value};

/// The value of a field of that type, in a structure called `parent`, that fills `part`.
pub(crate) fn decode(type_name: &str, parent: &str, part: &Decoder<'_>) -> Value {
    let known = match type_name {
        "virtio" => virtio::decode(parent, part),
        "pci config" => whole(part, "pci config", pci::config),
        "pci irq state" => whole(part, "pci irq state", pci::irq_state),
        "msix state" => whole(part, "msix state", pci::msix),
        "virtio-gpu" => whole(part, "virtio-gpu", gpu::device),
        "blob" if parent.starts_with("virtio-gpu") => whole(part, "virtio-gpu blobs", gpu::blobs),
        "shpc" => whole(part, "shpc", pci::shpc),
        "scsi-requests" if part.cursor.rest() == [0] => {
            Some(Value::List(List { framing: Framing::Marked, ..List::bare(Vec::new()) }))
        }
        _ => None,
    };
    known.unwrap_or_else(|| Value::Opaque(part.cursor.rest().into()))
}

/// What `read` makes of all of `part`.
fn whole(
    part: &Decoder<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Decoder<'_>) -> Read,
) -> Option<Value> {
    filled(part, name, read).map(Value::Structure)
}

fn filled(
    part: &Decoder<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Decoder<'_>) -> Read,
) -> Option<Structure> {
    let mut decoder = part.clone();
    read(&mut decoder).and_then(|()| decoder.end()).ok()?;
    Some(decoder.finish(name, 1))
}

/// The body of a section that no description speaks of, if its name says enough.
pub(crate) fn undescribed(head: &SectionHead, body: Cursor<'_>) -> Option<Structure> {
    let class = head.name.rsplit('/').next().filter(|class| class.starts_with("virtio-"))?;
    let mut decoder = Decoder::new(body);
    let value = virtio::decode(class, &decoder)?;
    let offset = body.offset();
    decoder.take(crate::input::len64(body.rest().len())).ok()?;
    decoder.push(("virtio", "virtio"), Kind::Structure, offset, value);
    Some(decoder.finish(class.to_owned(), head.version))
}
