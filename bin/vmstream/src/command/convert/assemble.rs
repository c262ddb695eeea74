//! Forms with memory in one place: all of it, or what differs from a parent.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write};
use std::path::Path;

use vmstream::message::{Manifest, Parent};
use vmstream::{Event, Reader, Writer};

use super::machine::Machine;
use super::{ConvertArgs, Form, copy};
use crate::input::Source;
use crate::parents::{Link, Target as _, expect_link, take};

/// Reads a stream, and the ones that it goes on from, and writes its other form.
pub(super) fn run<W: Write>(
    args: &ConvertArgs,
    mut reader: Reader<Source>,
    out: &mut W,
) -> anyhow::Result<()> {
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut whole = Machine::new(folder);
    let mut parent = Machine::new(folder);
    let mut below = None;
    let incremental = args.to == Form::Incremental;
    if incremental {
        below = args.parents.apply(&mut parent)?;
    }
    let rest = gather(args, &mut reader, &mut whole, below.as_ref())?;
    let rest = Reader::new(Box::new(BufReader::new(rest)) as Source);
    let memory = |writer: &mut Writer<&mut W>| {
        if args.to == Form::Mappable {
            return whole.write_mappable(writer);
        }
        let parent = incremental.then_some(&parent);
        whole.write_pages(parent, args.encoding.encoding(), writer)
    };
    let writer = write(rest, out, below.map(|link| link.parent()), memory)?;
    if args.to == Form::Mappable {
        writer.finish_with_index()?.1
    } else {
        writer.finish()?.1
    };
    Ok(())
}

/// Puts memory together, and writes all that is none into a file: a stream without pages.
fn gather(
    args: &ConvertArgs,
    reader: &mut Reader<Source>,
    whole: &mut Machine,
    below: Option<&Link>,
) -> anyhow::Result<File> {
    let out = BufWriter::new(tempfile::tempfile()?);
    let mut writer = copy::begin(reader, out)?;
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Manifest(manifest) => {
                start(args, &manifest, whole, below)?;
                let manifest = Manifest { parent: None, ..manifest };
                copy::copy(reader, Event::Manifest(manifest), &mut writer)?;
            }
            Event::Pages(_) | Event::Disk(_) | Event::Ram(_) => take(reader, &event, whole)?,
            event => copy::copy(reader, event, &mut writer)?,
        }
    }
    reader.expect_end()?;
    let (out, _) = writer.finish()?;
    let mut file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

/// What memory is before the first page of a stream: nothing, or what the streams say that it goes on from.
fn start(
    args: &ConvertArgs,
    manifest: &Manifest,
    whole: &mut Machine,
    below: Option<&Link>,
) -> anyhow::Result<()> {
    let is_whole = manifest.parent.is_none();
    if let Some(link) = below {
        link.expect_same_memory(manifest)?;
    }
    if is_whole && (below.is_some() || args.parents.is_empty()) {
        return whole.begin(manifest);
    }
    let chain = args.parents.apply(whole)?;
    expect_link(chain.as_ref(), manifest)
}

/// Writes the stream without pages again, and memory before its switch.
fn write<W: Write>(
    mut rest: Reader<Source>,
    out: W,
    parent: Option<Parent>,
    memory: impl Fn(&mut Writer<W>) -> anyhow::Result<()>,
) -> anyhow::Result<Writer<W>> {
    let mut writer = copy::begin(&mut rest, out)?;
    while let Some(event) = rest.next_event()? {
        match event {
            Event::Manifest(manifest) => {
                let manifest = Manifest { parent: parent.clone(), ..manifest };
                copy::copy(&rest, Event::Manifest(manifest), &mut writer)?;
            }
            Event::Switch(_) => {
                memory(&mut writer)?;
                copy::copy(&rest, event, &mut writer)?;
            }
            event => copy::copy(&rest, event, &mut writer)?,
        }
    }
    Ok(writer)
}
