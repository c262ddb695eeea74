//! What the user sees.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

/// Prints a line.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints JSON.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Prints rows below a header, columns aligned; those in `right` are numbers.
pub(crate) fn table(header: &[&str], right: &[usize], rows: &[Vec<String>]) -> io::Result<()> {
    let header = header.iter().map(|each| (*each).to_owned()).collect::<Vec<_>>();
    let width = |column: usize| {
        let cells = rows.iter().chain([&header]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for row in [&header].into_iter().chain(rows) {
        let mut text = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let cell = printable(cell);
            if right.contains(&column) {
                text += &format!("{gap}{cell:>width$}");
            } else {
                text += &format!("{gap}{cell:<width$}");
            }
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    out.flush()
}

/// Text of an input, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|each| if each.is_control() { '\u{fffd}' } else { each }).collect()
}

/// Bytes in the unit that a person would choose.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Bytes as digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
