//! What a virtio GPU holds besides its queues: pictures and where they are shown.
//!
//! Source: QEMU, `hw/display/virtio-gpu.c`, `virtio_gpu_save`, `virtio_gpu_blob_save`.

use crate::decoder::{Decoder, Read};
use crate::error::Rule;
use crate::input::len64;
use crate::tree::Kind;

/// Pictures in the host's memory, then scanouts.
pub(super) fn device(decoder: &mut Decoder<'_>) -> Read {
    while next_number(decoder)? != 0 {
        decoder.structure(("resource", "virtio-gpu resource"), |resource| {
            resource.u32("resource_id")?;
            let width = resource.u32("width")?;
            let height = resource.u32("height")?;
            resource.u32("format")?;
            backing(resource)?;
            // Every format of VIRTIO 1.2, section 5.7.6.8, has four bytes a pixel.
            let bytes = width.saturating_mul(height).saturating_mul(4);
            resource.bytes("image", bytes).map(drop)
        })?;
    }
    decoder.u32("end_of_resources")?;
    scanouts(decoder)
}

/// Pictures in the guest's memory.
pub(super) fn blobs(decoder: &mut Decoder<'_>) -> Read {
    while next_number(decoder)? != 0 {
        decoder.structure(("resource", "virtio-gpu blob"), |resource| {
            resource.u32("resource_id")?;
            resource.u32("blob_size")?;
            backing(resource)
        })?;
    }
    decoder.u32("end_of_resources").map(drop)
}

/// The number of the picture that stands next; 0 is the end.
fn next_number(decoder: &Decoder<'_>) -> Read<u32> {
    let mut ahead = decoder.cursor;
    ahead.be32()
}

fn backing(decoder: &mut Decoder<'_>) -> Read {
    let count = decoder.u32("iov_cnt")?;
    for _ in 0..count {
        decoder.structure(("backing", "virtio-gpu backing"), |backing| {
            backing.u64("gpa")?;
            backing.u32("length").map(drop)
        })?;
    }
    Ok(())
}

fn scanouts(decoder: &mut Decoder<'_>) -> Read {
    const OLD: &[&str] = &[
        "resource_id",
        "width",
        "height",
        "x",
        "y",
        "cursor.resource_id",
        "cursor.hot_x",
        "cursor.hot_y",
        "cursor.pos.x",
        "cursor.pos.y",
    ];
    const NEW: &[&str] =
        &["fb.format", "fb.bytes_pp", "fb.width", "fb.height", "fb.stride", "fb.offset"];
    decoder.number("enable", Kind::I32)?;
    let at = decoder.cursor;
    let count = decoder.u32("max_outputs")?;
    let left = len64(decoder.cursor.rest().len());
    // QEMU 10.0 asks the version of the first scanout rightly and of the others beside the mark, so they may differ.
    let others = count.saturating_sub(1);
    let widths = [(40, 40), (64, 64), (40, 64), (64, 40)];
    let fits =
        |(first, other): &(u64, u64)| left == first.saturating_add(other.saturating_mul(others));
    let Some((first, other)) = widths.into_iter().find(fits) else {
        return Err(at.broken(Rule::Decoder).found(left));
    };
    for number in 0..count {
        let width = if number == 0 { first } else { other };
        let more = if width == 64 { NEW } else { &[] };
        decoder.structure(("scanout", "virtio-gpu-one-scanout"), |scanout| {
            for name in OLD.iter().chain(more) {
                let kind = if matches!(*name, "x" | "y") { Kind::I32 } else { Kind::U32 };
                scanout.number(name, kind)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
