//! What a stream takes besides pages, and what device state takes in time.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use vmstream::frame::{HEADER_BYTES, Kind};
use vmstream::message::{Hello, Purpose, Switch, SwitchMode};
use vmstream::writer::Finality;
use vmstream::{Event, Reader, Writer};

use super::captured::{Captured, State};
use crate::bench::report::{Bar, Report};
use crate::bench::statistics::median;

const ROUNDS: usize = 201;

pub(super) fn run(captured: &Captured, report: &mut Report) -> Result<()> {
    let (kinds, pages) = sizes(captured)?;
    let whole = captured.bytes()?;
    let bytes = |kind: Kind| kinds.get(&kind.number()).copied().unwrap_or_default() as f64;
    report.add("stream of a running guest of 256 MiB", whole as f64 / 1e6, "MB", Bar::None);
    let over = (whole - pages) as f64 / pages as f64 * 100.0;
    report.add("all but pages ÷ pages", over, "%", Bar::AtMost(0.1));
    report.add("state of its devices", bytes(Kind::Device), "bytes", Bar::AtMost(10_000.0));
    report.add("its schemas", bytes(Kind::Schema), "bytes", Bar::None);
    report.add("notes, for the way back to QEMU", bytes(Kind::Note), "bytes", Bar::None);
    times(&captured.machine()?, report)
}

/// Bytes of frames by kind, and bytes of pages as they are stored.
fn sizes(captured: &Captured) -> Result<(BTreeMap<u8, usize>, u64)> {
    let mut reader = captured.reader()?;
    let (mut kinds, mut pages) = (BTreeMap::new(), 0);
    while let Some(event) = reader.next_event()? {
        let Some(frame) = reader.frame() else { continue };
        let bytes = usize::try_from(frame.header.length)? + HEADER_BYTES;
        *kinds.entry(frame.header.kind).or_default() += bytes;
        if let Event::Pages(frame) = &event {
            pages += u64::try_from(frame.stored().len())?;
        }
    }
    Ok((kinds, pages))
}

/// From records to a stream's bytes and back, all checks included; schemas went before.
fn times(state: &State, report: &mut Report) -> Result<()> {
    let (mut there, mut back, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut writer = Writer::new(Vec::new(), &Hello::new("bench", "1", Purpose::State))?;
        for (id, schema) in &state.schemas {
            writer.schema_as(*id, schema)?;
        }
        writer.manifest(&state.manifest)?;
        writer.switch(&Switch { mode: SwitchMode::Stopped })?;
        let start = Instant::now();
        writer.devices(&state.records, Finality::Final)?;
        let encoded = start.elapsed().as_secs_f64() * 1e3;
        let decoded = decode(&writer.finish()?.0)?;
        there.push(encoded);
        back.push(decoded);
        both.push(encoded + decoded);
    }
    report.add("state: encode", median(&there), "ms", Bar::None);
    report.add("state: decode", median(&back), "ms", Bar::None);
    report.add("state: encode and decode", median(&both), "ms", Bar::AtMost(1.0));
    Ok(())
}

/// Milliseconds for the frames of devices.
fn decode(stream: &[u8]) -> Result<f64> {
    let mut reader = Reader::new(stream);
    let mut took = 0.0;
    loop {
        let start = Instant::now();
        let event = reader.next_event()?;
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        match black_box(event) {
            Some(Event::Devices(_)) => took += elapsed,
            Some(_) => {}
            None => return Ok(took),
        }
    }
}
