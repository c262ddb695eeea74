//! What each class of virtio device adds to the generic state.

use super::virtio::{Facts, Variant};
use crate::decoder::{Decoder, Read};
use crate::error::Rule;
use crate::tree::Kind;

/// `class` is the name of the description that the device's section carries.
pub(super) fn decode(
    decoder: &mut Decoder<'_>,
    class: &str,
    variant: Variant,
    facts: Facts,
) -> Read {
    match class {
        "virtio-blk" => block(decoder, variant),
        "virtio-net" => {
            decoder.structure(("net", "virtio-net-device"), |inner| net(inner, variant, facts))
        }
        "virtio-console" => {
            decoder.structure(("serial", "virtio-serial"), |inner| serial(inner, variant))
        }
        "virtio-balloon" => decoder.structure(("balloon", "virtio-balloon-device"), balloon),
        "virtio-iommu" => decoder.structure(("iommu", "virtio-iommu-device"), iommu),
        // These add nothing.
        _ => Ok(()),
    }
}

/// Requests that wait to be tried again.
///
/// Source: QEMU, `hw/block/virtio-blk.c`, `virtio_blk_save_device`.
fn block(decoder: &mut Decoder<'_>, variant: Variant) -> Read {
    decoder.marked(("requests", "virtio-blk request"), |request| {
        if variant.multiqueue {
            request.u32("queue")?;
        }
        element(request, variant)
    })
}

/// Source: QEMU, `hw/virtio/virtio.c`, `VirtQueueElementOld`: a C structure as it lies in a 64-bit host's memory.
fn element(decoder: &mut Decoder<'_>, variant: Variant) -> Read {
    const SIZE: u32 = 1024;
    if variant.packed {
        decoder.u32("ndescs")?;
    }
    for name in ["index", "out_num", "in_num"] {
        decoder.number(name, Kind::U32Le)?;
    }
    decoder.bytes("padding", 4)?;
    for name in ["in_addr", "out_addr"] {
        decoder.structures((name, "address"), SIZE, 8, |address| {
            address.number("gpa", Kind::U64Le).map(drop)
        })?;
    }
    for name in ["in_sg", "out_sg"] {
        decoder.structures((name, "iovec"), SIZE, 16, |iovec| {
            iovec.number("base", Kind::U64Le)?;
            iovec.number("len", Kind::U64Le).map(drop)
        })?;
    }
    Ok(())
}

/// Source: QEMU, `hw/net/virtio-net.c`, `vmstate_virtio_net_device`.
fn net(decoder: &mut Decoder<'_>, variant: Variant, facts: Facts) -> Read {
    /// VIRTIO 1.2, section 5.1.3: `VIRTIO_NET_F_CTRL_GUEST_OFFLOADS`.
    const GUEST_OFFLOADS: u64 = 1 << 2;
    decoder.bytes("mac", 6)?;
    decoder.u32("tx_waiting")?;
    decoder.u32("mergeable_rx_bufs")?;
    decoder.u16("status")?;
    decoder.u8("promisc")?;
    decoder.u8("allmulti")?;
    let entries = decoder.u32("mac_table.in_use")?;
    decoder.bytes("mac_table.macs", entries.saturating_mul(6))?;
    decoder.bytes("vlans", 4096 / 8)?;
    decoder.u32("has_vnet_hdr")?;
    for name in [
        "mac_table.multi_overflow",
        "mac_table.uni_overflow",
        "alluni",
        "nomulti",
        "nouni",
        "nobcast",
        "has_ufo",
    ] {
        decoder.u8(name)?;
    }
    if variant.multiqueue {
        let at = decoder.cursor;
        let most = decoder.u16("max_queue_pairs")?;
        let current = decoder.u16("curr_queue_pairs")?;
        if most < 2 || current > most || facts.queues < 2 {
            return Err(at.broken(Rule::Decoder).found(current).want(most));
        }
        decoder.numbers("tx_waiting_further", Kind::U32, current.saturating_sub(1))?;
    }
    if facts.features & GUEST_OFFLOADS != 0 {
        decoder.u64("curr_guest_offloads")?;
    }
    decoder.subsections("virtio-net-device", net_subsection)
}

fn net_subsection(decoder: &mut Decoder<'_>, name: &str) -> Read {
    if name != "virtio-net-device/rss" {
        return Err(decoder.cursor.broken(Rule::Decoder).name(name));
    }
    for name in ["rss_data.enabled", "rss_data.redirect", "rss_data.populate_hash"] {
        decoder.flag(name)?;
    }
    decoder.u32("rss_data.hash_types")?;
    let entries = decoder.u16("rss_data.indirections_len")?;
    decoder.u16("rss_data.default_queue")?;
    decoder.bytes("rss_data.key", 40)?;
    decoder.numbers("rss_data.indirections_table", Kind::U16, entries)
}

/// Source: QEMU, `hw/char/virtio-serial-bus.c`, `virtio_serial_save_device`.
fn serial(decoder: &mut Decoder<'_>, variant: Variant) -> Read {
    decoder.u16("cols")?;
    decoder.u16("rows")?;
    let at = decoder.cursor;
    let ports = decoder.u32("max_nr_ports")?;
    // Source: `include/hw/virtio/virtio-serial.h`: a port takes two queues of 1024.
    if ports > 512 {
        return Err(at.broken(Rule::Decoder).found(ports).want(512u16));
    }
    decoder.numbers("ports_map", Kind::U32, ports.div_ceil(32))?;
    let active = decoder.u32("active_ports")?;
    for _ in 0..active {
        decoder.structure(("port", "virtio-serial port"), |port| {
            port.u32("id")?;
            port.u8("guest_connected")?;
            port.u8("host_connected")?;
            if port.u32("element_popped")? != 0 {
                port.u32("iov_idx")?;
                port.u64("iov_offset")?;
                element(port, variant)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Source: QEMU, `hw/virtio/virtio-balloon.c`, `vmstate_virtio_balloon_device`.
fn balloon(decoder: &mut Decoder<'_>) -> Read {
    decoder.u32("num_pages")?;
    decoder.u32("actual")?;
    decoder.subsections("virtio-balloon-device", |sub, name| match name {
        "virtio-balloon-device/free-page-report" => {
            sub.u32("free_page_hint_cmd_id")?;
            sub.u32("free_page_hint_status").map(drop)
        }
        "virtio-balloon-device/page-poison" => sub.u32("poison_val").map(drop),
        _ => Err(sub.cursor.broken(Rule::Decoder).name(name)),
    })
}

/// Source: QEMU, `hw/virtio/virtio-iommu.c`, `vmstate_virtio_iommu_device`.
fn iommu(decoder: &mut Decoder<'_>) -> Read {
    let count = decoder.u32("domain_count")?;
    let mut seen = 0u64;
    decoder.marked(("domains", "domain"), |domain| {
        seen = seen.saturating_add(1);
        domain.u64("key")?;
        domain.u32("id")?;
        domain.u32("mapping_count")?;
        domain.marked(("mappings", "mapping"), |mapping| {
            for name in ["low", "high", "phys_addr"] {
                mapping.u64(name)?;
            }
            mapping.u32("flags").map(drop)
        })?;
        domain.marked(("endpoints", "endpoint"), |endpoint| endpoint.u32("id").map(drop))?;
        domain.flag("bypass").map(drop)
    })?;
    if seen != count {
        return Err(decoder.cursor.broken(Rule::Decoder).found(seen).want(count));
    }
    decoder.u8("config.bypass").map(drop)
}
