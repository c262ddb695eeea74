//! What goes into one frame together, and what things are called.

use vmstream::Value as Ours;
use vmstream::value::encode;

/// Bytes of one note or frame of records, well below the most that it may have.
const FRAME_BYTES: usize = 512 << 10;
/// Values of one note or frame of records, likewise.
const FRAME_VALUES: usize = 200_000;
/// Bytes and values.
pub(crate) fn weight(value: &Ours) -> (usize, usize) {
    (encode(value).len(), value.count())
}

/// Neighbours that fit one frame together. What is too large by itself is alone.
pub(crate) fn groups<T>(all: &[T], weigh: impl Fn(&T) -> (usize, usize)) -> Vec<&[T]> {
    let (mut groups, mut start, mut sum) = (Vec::new(), 0, (0, 0));
    for (at, item) in all.iter().enumerate() {
        let (bytes, values) = weigh(item);
        // Path, kind and heads of a record.
        let more = (bytes.saturating_add(1024), values.saturating_add(8));
        sum = (more.0.saturating_add(sum.0), more.1.saturating_add(sum.1));
        if at > start && (sum.0 > FRAME_BYTES || sum.1 > FRAME_VALUES) {
            groups.extend(all.get(start..at));
            (start, sum) = (at, more);
        }
    }
    groups.extend(all.get(start..).filter(|rest| !rest.is_empty()));
    groups
}

/// What a block of memory is, by QEMU's name for it.
pub(crate) fn kind_of(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    if has("vram") || has("vga.") {
        "vram"
    } else if has("rom") || has("bios") || has("acpi") || has("etc/") || has("flash") {
        "rom"
    } else {
        "ram"
    }
}
