//! What a QEMU migration stream holds: bytes of each kind, sections, and what is opaque in them.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;

use vmstream_qemu::{Event, RamRecord, Reader, share};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: summary FILE")?;
    let mut lengths: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut lines, mut name) = (Vec::new(), String::new());
    let mut take = |range: Range<u64>, event: &Event<'_>| -> io::Result<()> {
        let kind = match event {
            Event::Section(head) => {
                name = format!("{} {}", head.name, head.instance_id);
                "sections' heads"
            }
            Event::Device(structure) => {
                lines.push(format!("{name}: {:?}", share(structure)));
                "device state"
            }
            Event::Opaque(bytes) => {
                lines.push(format!("{name}: {} bytes, unknown", bytes.len()));
                "unknown state"
            }
            Event::Ram(RamRecord::Fill { .. }) => "pages of zeros",
            Event::Ram(RamRecord::Data { .. } | RamRecord::MappedPages { .. }) => "pages",
            Event::Ram(_) => "memory, the rest",
            Event::Description { .. } => "description",
            Event::Header
            | Event::Configuration(_)
            | Event::Footer { .. }
            | Event::Command(_)
            | Event::PackageEnd
            | Event::End => "the rest",
            Event::Trailing(_) | _ => "behind the stream",
        };
        let length = range.end.saturating_sub(range.start);
        lengths.entry(kind).and_modify(|sum| *sum = sum.saturating_add(length)).or_insert(length);
        Ok(())
    };
    Reader::new().read(&mut File::open(path)?, &mut take)?;
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    for (kind, length) in lengths {
        writeln!(out, "{length:>12}  {kind}")?;
    }
    Ok(())
}
