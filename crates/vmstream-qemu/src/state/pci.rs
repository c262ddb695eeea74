//! PCI: configuration space, interrupt lines, MSI-X.

use crate::decoder::{Decoder, Read};
use crate::error::Rule;
use crate::input::len64;
use crate::tree::Kind;

/// The whole of configuration space, 256 or 4096 bytes.
///
/// Source: PCI Local Bus Specification 3.0, section 6.1; PCI-to-PCI Bridge Architecture 1.2, section 3.2.
pub(super) fn config(decoder: &mut Decoder<'_>) -> Read {
    let space = decoder.cursor.rest();
    let bridge = space.get(0x0e).is_some_and(|kind| kind & 0x7f == 1);
    for name in ["vendor_id", "device_id", "command", "status"] {
        decoder.number(name, Kind::U16Le)?;
    }
    decoder.u8("revision_id")?;
    decoder.bytes("class_code", 3)?;
    for name in ["cache_line_size", "latency_timer", "header_type", "bist"] {
        decoder.u8(name)?;
    }
    if bridge {
        type_1(decoder)?
    } else {
        type_0(decoder)?
    }
    capabilities(decoder, space)
}

fn type_0(decoder: &mut Decoder<'_>) -> Read {
    decoder.numbers("bars", Kind::U32Le, 6)?;
    decoder.number("cardbus_cis", Kind::U32Le)?;
    decoder.number("subsystem_vendor_id", Kind::U16Le)?;
    decoder.number("subsystem_id", Kind::U16Le)?;
    decoder.number("rom_address", Kind::U32Le)?;
    decoder.u8("capabilities_pointer")?;
    decoder.bytes("reserved", 7)?;
    for name in ["interrupt_line", "interrupt_pin", "min_gnt", "max_lat"] {
        decoder.u8(name)?;
    }
    Ok(())
}

fn type_1(decoder: &mut Decoder<'_>) -> Read {
    decoder.numbers("bars", Kind::U32Le, 2)?;
    for name in [
        "primary_bus",
        "secondary_bus",
        "subordinate_bus",
        "secondary_latency",
        "io_base",
        "io_limit",
    ] {
        decoder.u8(name)?;
    }
    for name in [
        "secondary_status",
        "memory_base",
        "memory_limit",
        "prefetchable_base",
        "prefetchable_limit",
    ] {
        decoder.number(name, Kind::U16Le)?;
    }
    for name in ["prefetchable_base_upper", "prefetchable_limit_upper"] {
        decoder.number(name, Kind::U32Le)?;
    }
    decoder.number("io_base_upper", Kind::U16Le)?;
    decoder.number("io_limit_upper", Kind::U16Le)?;
    decoder.u8("capabilities_pointer")?;
    decoder.bytes("reserved", 3)?;
    decoder.number("rom_address", Kind::U32Le)?;
    decoder.u8("interrupt_line")?;
    decoder.u8("interrupt_pin")?;
    decoder.number("bridge_control", Kind::U16Le).map(drop)
}

/// What lies behind the header: each capability up to the next, then extended space.
fn capabilities(decoder: &mut Decoder<'_>, space: &[u8]) -> Read {
    let mut starts = capability_offsets(space);
    starts.sort_unstable();
    let ends = starts.iter().skip(1).copied().chain([256]);
    if let Some(first) = starts.first() {
        decoder.bytes("device_specific", u64::from(*first).saturating_sub(64))?;
    } else {
        decoder.bytes("device_specific", 192)?;
    }
    for (start, end) in starts.iter().zip(ends) {
        let id = space.get(usize::from(*start)).copied().unwrap_or_default();
        let name = format!("{}@{start:02x}", capability_name(id));
        decoder.bytes(name, u64::from(end.saturating_sub(*start)))?;
    }
    let rest = len64(decoder.cursor.rest().len());
    if rest > 0 {
        decoder.bytes("extended", rest)?;
    }
    Ok(())
}

/// Where the capabilities begin, in the order of the chain; a chain that loops ends where it does.
pub(super) fn capability_offsets(space: &[u8]) -> Vec<u16> {
    let byte = |at: u16| space.get(usize::from(at)).copied().unwrap_or_default();
    let mut offsets = Vec::new();
    if byte(0x06) & 0x10 == 0 {
        return offsets;
    }
    let mut at = u16::from(byte(0x34) & 0xfc);
    while (0x40..=0xfc).contains(&at) && !offsets.contains(&at) {
        offsets.push(at);
        at = u16::from(byte(at.saturating_add(1)) & 0xfc);
    }
    offsets
}

/// Source: PCI Code and ID Assignment Specification 1.11, section 2.
fn capability_name(id: u8) -> String {
    match id {
        0x01 => "power_management".into(),
        0x05 => "msi".into(),
        0x09 => "vendor".into(),
        0x0d => "bridge_subsystem".into(),
        0x10 => "express".into(),
        0x11 => "msix".into(),
        0x12 => "sata".into(),
        0x13 => "advanced_features".into(),
        other => format!("capability_{other:02x}"),
    }
}

/// The number of MSI-X vectors, if the device has the capability.
pub(super) fn msix_vectors(space: &[u8]) -> Option<u32> {
    let offsets = capability_offsets(space);
    let msix = offsets.into_iter().find(|at| space.get(usize::from(*at)) == Some(&0x11))?;
    let low = space.get(usize::from(msix.checked_add(2)?))?;
    let high = space.get(usize::from(msix.checked_add(3)?))?;
    Some(u32::from(u16::from_le_bytes([*low, *high]) & 0x7ff).saturating_add(1))
}

/// Source: QEMU, `hw/pci/pci.c`, `put_pci_irq_state`: one word for each of four pins.
pub(super) fn irq_state(decoder: &mut Decoder<'_>) -> Read {
    for name in ["inta", "intb", "intc", "intd"] {
        let at = decoder.cursor;
        let level = decoder.u32(name)?;
        if level > 1 {
            return Err(at.broken(Rule::Decoder).found(level).want(1u8));
        }
    }
    Ok(())
}

/// The MSI-X state that fills the decoder; a device without vectors writes none.
pub(super) fn msix(decoder: &mut Decoder<'_>) -> Read {
    let bytes = decoder.cursor.rest().len();
    // 16 bytes of table each, a bit of pending each, in whole bytes.
    let vectors = bytes.saturating_mul(8) / 129;
    let vectors = u32::try_from(vectors).unwrap_or(u32::MAX);
    if bytes == 0 { Ok(()) } else { msix_of(decoder, vectors) }
}

/// Source: QEMU, `hw/pci/msix.c`, `msix_save`; PCI Local Bus Specification 3.0, section 6.8.2.
pub(super) fn msix_of(decoder: &mut Decoder<'_>, vectors: u32) -> Read {
    decoder.structures(("table", "msix entry"), vectors, 16, |entry| {
        entry.number("address", Kind::U64Le)?;
        entry.number("data", Kind::U32Le)?;
        entry.number("control", Kind::U32Le).map(drop)
    })?;
    decoder.bytes("pending", u64::from(vectors.div_ceil(8))).map(drop)
}

/// The registers of a standard hot-plug controller, with as many slots as fill the decoder.
///
/// Source: QEMU, `hw/pci/shpc.c`, `shpc_save`; PCI Standard Hot-Plug Controller Specification 1.0, section 4.
pub(super) fn shpc(decoder: &mut Decoder<'_>) -> Read {
    for name in ["base_offset", "slots_available_1", "slots_available_2", "slot_configuration"] {
        decoder.number(name, Kind::U32Le)?;
    }
    decoder.number("secondary_bus_configuration", Kind::U16Le)?;
    decoder.u8("msi_control")?;
    decoder.u8("programming_interface")?;
    decoder.number("command", Kind::U16Le)?;
    decoder.number("status", Kind::U16Le)?;
    for name in ["interrupt_locator", "serr_locator", "serr_interrupt_enable"] {
        decoder.number(name, Kind::U32Le)?;
    }
    let slots = len64(decoder.cursor.rest().len()) / 4;
    decoder.numbers("slots", Kind::U32Le, slots)
}
