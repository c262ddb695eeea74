//! From a stream to another, event by event, in order.

use std::io::Write;

use vmstream::message::{Encoding, Pages, PagesBuilder, Purpose, Ram, RunKind};
use vmstream::writer::Finality;
use vmstream::{Event, Reader, Writer};

use crate::failure::unfit;
use crate::input::Source;

/// Reads the beginning of a stream, and begins another like it.
pub(super) fn begin<W: Write>(reader: &mut Reader<Source>, out: W) -> anyhow::Result<Writer<W>> {
    match reader.next_event()? {
        Some(Event::Hello(hello)) if hello.purpose == Purpose::State => {
            Ok(Writer::new(out, &hello)?)
        }
        _ => Err(unfit("it is no machine's state")),
    }
}

/// Writes what an event says, if it is neither of memory nor the end; in the epoch that it came in.
pub(super) fn copy<W: Write>(
    reader: &Reader<Source>,
    event: Event,
    writer: &mut Writer<W>,
) -> anyhow::Result<()> {
    writer.set_epoch(reader.frame().map_or(0, |frame| frame.header.epoch));
    match event {
        Event::Schema(id, schema) => writer.schema_as(id, &schema)?,
        Event::Manifest(manifest) => writer.manifest(&manifest)?,
        Event::Verdict(verdict) => writer.verdict(&verdict)?,
        Event::Note(note) => writer.note(&note)?,
        Event::Provisional(records) => writer.devices(&records, Finality::Provisional)?,
        Event::Switch(switch) => writer.switch(&switch)?,
        Event::Devices(records) => writer.devices(&records, Finality::Final)?,
        Event::Abort(finding) => return Err(unfit(format!("its writer gave up: {finding}"))),
        // Checksums and the end are made anew; what is unknown or filler is nobody's.
        _ => {}
    }
    Ok(())
}

/// Copies all of a stream as pages in another encoding.
pub(super) fn sequential<W: Write>(
    mut reader: Reader<Source>,
    encoding: Encoding,
    out: W,
) -> anyhow::Result<()> {
    let mut writer = begin(&mut reader, out)?;
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Pages(pages) => {
                writer.set_epoch(epoch(&reader));
                writer.pages(&encoded(&reader, pages, encoding)?)?;
            }
            Event::Disk(pages) => {
                writer.set_epoch(epoch(&reader));
                writer.disk(&encoded(&reader, pages, encoding)?)?;
            }
            Event::Ram(ram) => as_pages(&mut reader, &ram, encoding, &mut writer)?,
            event => copy(&reader, event, &mut writer)?,
        }
    }
    reader.expect_end()?;
    writer.finish()?;
    Ok(())
}

fn epoch(reader: &Reader<Source>) -> u32 {
    reader.frame().map_or(0, |frame| frame.header.epoch)
}

/// The same pages, stored otherwise.
fn encoded(reader: &Reader<Source>, pages: Pages, encoding: Encoding) -> anyhow::Result<Pages> {
    if (encoding, pages.encoding()) == (Encoding::Raw, Encoding::Raw) {
        return Ok(pages);
    }
    let page = reader.manifest().map_or(0, |manifest| manifest.page_size);
    let page = usize::try_from(page)?.max(1);
    let mut builder = PagesBuilder::new(pages.region(), page, encoding);
    let data = pages.data()?;
    let mut data = data.chunks(page);
    for run in pages.runs() {
        if run.kind != RunKind::Data {
            builder.run(run.first, run.count, run.kind);
            continue;
        }
        let count = usize::try_from(run.count)?;
        for (number, bytes) in (run.first..).zip(data.by_ref().take(count)) {
            builder.page(number, bytes);
        }
    }
    Ok(builder.build()?)
}

/// Writes a ram frame as frames of pages.
fn as_pages<W: Write>(
    reader: &mut Reader<Source>,
    ram: &Ram,
    encoding: Encoding,
    writer: &mut Writer<W>,
) -> anyhow::Result<()> {
    writer.set_epoch(epoch(reader));
    let bytes = reader.manifest().map_or(0, |manifest| manifest.page_size).max(1);
    let page_size = usize::try_from(bytes)?;
    let mut builder = PagesBuilder::new(ram.region, page_size, encoding);
    let mut page = vec![0; page_size];
    let first = ram.offset / bytes;
    for number in first..first.saturating_add(ram.length / bytes) {
        let mut rest = page.as_mut_slice();
        while !rest.is_empty() {
            let got = reader.read_ram(rest)?;
            rest = rest.get_mut(got..).filter(|_| got > 0).unwrap_or_default();
        }
        builder.page(number, &page);
        if builder.is_full() {
            writer.pages(&builder.build()?)?;
        }
    }
    if !builder.is_empty() {
        writer.pages(&builder.build()?)?;
    }
    Ok(())
}
