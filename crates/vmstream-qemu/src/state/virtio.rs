//! A virtio device: its transport, its queues, what its class adds, and the subsections.
//!
//! Source: QEMU, `hw/virtio/virtio.c` (`virtio_save`), `virtio-pci.c`, `virtio-mmio.c`.

use super::{filled, pci, virtio_class};
use crate::decoder::{Decoder, Read};
use crate::error::Rule;
use crate::tree::{Kind, Value};

/// Source: `include/hw/virtio/virtio.h`, `VIRTIO_QUEUE_MAX`.
const QUEUES: u32 = 1024;

/// What lies before the device's own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Pci { config_bytes: u64 },
    Mmio,
}

/// What the stream does not say and the layout depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    transport: Transport,
    /// The host offers packed rings, so an element says how many descriptors it had.
    pub(super) packed: bool,
    /// The device could have several queue pairs, or several queues.
    pub(super) multiqueue: bool,
}

/// What of the generic part the class's layout depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) features: u64,
    pub(super) queues: u64,
}

/// Tries each layout that the stream may have; one that fills the bytes exactly is it.
pub(super) fn decode(class: &str, part: &Decoder<'_>) -> Option<Value> {
    let transports = [
        Transport::Pci { config_bytes: 256 },
        Transport::Pci { config_bytes: 4096 },
        Transport::Mmio,
    ];
    let variants = transports.into_iter().flat_map(|transport| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(packed, multiqueue)| Variant { transport, packed, multiqueue })
    });
    let mut found = variants
        .filter_map(|variant| filled(part, "virtio", |decoder| device(decoder, class, variant)));
    found.next().map(Value::Structure)
}

fn device(decoder: &mut Decoder<'_>, class: &str, variant: Variant) -> Read {
    let vectors = match variant.transport {
        Transport::Pci { config_bytes } => pci_transport(decoder, config_bytes)?,
        Transport::Mmio => mmio_transport(decoder)?,
    };
    decoder.u8("status")?;
    decoder.u8("isr")?;
    decoder.u16("queue_sel")?;
    let features = decoder.u32("guest_features_low")?;
    let config_bytes = decoder.u32("config_len")?;
    decoder.bytes("config", config_bytes)?;
    let at = decoder.cursor;
    let queues = decoder.u32("queue_count")?;
    if queues > u64::from(QUEUES) {
        return Err(at.broken(Rule::Decoder).found(queues).want(QUEUES));
    }
    let width =
        14 + if vectors { 2 } else { 0 } + if variant.transport == Transport::Mmio { 4 } else { 0 };
    let count = u32::try_from(queues).unwrap_or(QUEUES);
    decoder.structures(("queues", "virtqueue"), count, width, |queue| {
        queue.u32("num")?;
        if variant.transport == Transport::Mmio {
            queue.u32("align")?;
        }
        queue.u64("desc")?;
        queue.u16("last_avail_idx")?;
        if vectors {
            queue.u16("vector")?;
        }
        Ok(())
    })?;
    virtio_class::decode(decoder, class, variant, Facts { features, queues })?;
    decoder.subsections("virtio", subsection)
}

/// Whether queues have vectors.
fn pci_transport(decoder: &mut Decoder<'_>, config_bytes: u64) -> Read<bool> {
    let mut vectors = None;
    decoder.structure(("transport", "PCIDevice"), |decoder| {
        let at = decoder.cursor;
        let version = decoder.number("version_id", Kind::I32)?;
        if !(1..=2).contains(&version) {
            return Err(at.broken(Rule::Decoder).found(version).want(2u8));
        }
        let space = decoder.part(config_bytes)?;
        vectors = pci::msix_vectors(space.cursor.rest());
        let offset = space.cursor.offset();
        let config = filled(&space, "pci config", pci::config)
            .ok_or_else(|| space.cursor.broken(Rule::Decoder))?;
        decoder.push(("config", "pci config"), Kind::Structure, offset, Value::Structure(config));
        decoder.structure(("irq_state", "pci irq state"), pci::irq_state)?;
        if let Some(vectors) = vectors {
            decoder.structure(("msix", "msix state"), |decoder| pci::msix_of(decoder, vectors))?;
            decoder.u16("config_vector")?;
        }
        Ok(())
    })?;
    Ok(vectors.is_some())
}

fn mmio_transport(decoder: &mut Decoder<'_>) -> Read<bool> {
    decoder.structure(("transport", "virtio_mmio"), |decoder| {
        decoder.u32("host_features_sel")?;
        decoder.u32("guest_features_sel")?;
        decoder.u32("guest_page_shift").map(drop)
    })?;
    Ok(false)
}

fn subsection(decoder: &mut Decoder<'_>, name: &str) -> Read {
    match name {
        "virtio/device_endian" => decoder.u8("device_endian").map(drop),
        "virtio/64bit_features" => decoder.u64("guest_features").map(drop),
        "virtio/virtqueues" => decoder.structures(("vq", "virtqueue_state"), QUEUES, 16, |queue| {
            queue.u64("vring.avail")?;
            queue.u64("vring.used").map(drop)
        }),
        "virtio/ringsize" => decoder.structures(("vq", "ringsize_state"), QUEUES, 4, |queue| {
            queue.u32("vring.num_default").map(drop)
        }),
        "virtio/broken" => decoder.flag("broken").map(drop),
        "virtio/started" => decoder.flag("started").map(drop),
        "virtio/disabled" => decoder.flag("disabled").map(drop),
        "virtio/packed_virtqueues" => {
            decoder.structures(("vq", "packed_virtqueue_state"), QUEUES, 10, |queue| {
                queue.u16("last_avail_idx")?;
                queue.flag("last_avail_wrap_counter")?;
                queue.u16("used_idx")?;
                queue.flag("used_wrap_counter")?;
                queue.u32("inuse").map(drop)
            })
        }
        "virtio/extra_state" => {
            decoder.structure(("extra_state", "virtqueue_extra_state"), |extra| {
                extra.subsections("virtio_pci", pci_modern)?;
                extra.subsections("virtio_mmio", mmio_modern)
            })
        }
        _ => Err(decoder.cursor.broken(Rule::Decoder).name(name)),
    }
}

fn pci_modern(decoder: &mut Decoder<'_>, name: &str) -> Read {
    if name != "virtio_pci/modern_state" {
        return Err(decoder.cursor.broken(Rule::Decoder).name(name));
    }
    decoder.u32("dfselect")?;
    decoder.u32("gfselect")?;
    decoder.numbers("guest_features", Kind::U32, 2)?;
    decoder.structures(("vqs", "virtio_pci/modern_queue_state"), QUEUES, 28, |queue| {
        queue.u16("num")?;
        queue.bytes("unused", 1)?;
        queue.flag("enabled")?;
        rings(queue)
    })
}

fn mmio_modern(decoder: &mut Decoder<'_>, name: &str) -> Read {
    if name != "virtio_mmio/state" {
        return Err(decoder.cursor.broken(Rule::Decoder).name(name));
    }
    decoder.numbers("guest_features", Kind::U32, 2)?;
    decoder.structures(("vqs", "virtio_mmio/queue_state"), QUEUES, 27, |queue| {
        queue.u16("num")?;
        queue.flag("enabled")?;
        rings(queue)
    })
}

/// Each address as two halves, the low one first.
fn rings(queue: &mut Decoder<'_>) -> Read {
    for name in ["desc", "avail", "used"] {
        queue.numbers(name, Kind::U32, 2)?;
    }
    Ok(())
}
