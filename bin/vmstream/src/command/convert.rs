//! `convert`: the same machine in another form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use vmstream::archive::Sparse;
use vmstream::message::{
    DeviceRecord, Encoding, Manifest, Note, PagesBuilder, Purpose, Ram, RunKind, Switch,
};
use vmstream::writer::Finality;
use vmstream::{Event, Reader, Writer, chain};
use vmstream_transcode::{self as transcode, Options, Origin, from_vmstream};

use crate::failure::unfit;
use crate::input::{self, Draft, Source};
use crate::store::Files;

/// Bytes that one checksum of memory covers, and the alignment of memory in a file that is mapped.
const CHUNK: u32 = 2 << 20;

/// Write a stream in another form
///
/// `mappable` has each region as one piece that can be mapped, and an index; `sequential` has pages, and can be sent.
/// What the machine is stays the same: `diff` finds nothing. What is provisional or only for a reader on the way is left out.
///
/// A stream that was QEMU's becomes QEMU's again: `qemu` gives the same bytes but for values that were changed,
/// `qemu-precopy` what `-incoming` loads from a file, whatever form it had.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream convert vm.stream --to mappable -o vm.file\n  vmstream convert vm.file --to sequential --encoding zstd -o vm.stream\n  vmstream convert qemu.mig --to sequential -o vm.stream\n  vmstream convert vm.stream --to qemu -o qemu.mig"
)]
pub(crate) struct ConvertArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    /// The form
    #[arg(long, value_name = "FORM")]
    to: Form,
    /// How pages are stored in a sequential stream
    #[arg(long, value_name = "ENCODING", default_value = "raw")]
    encoding: Stored,
    /// Where to write it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Pages, from front to back
    Sequential,
    /// Memory that can be mapped, and an index
    Mappable,
    /// QEMU's own, as it was
    Qemu,
    /// QEMU's own precopy of one channel
    QemuPrecopy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stored {
    /// As they are
    Raw,
    /// As LZ4 blocks where that pays
    Lz4,
    /// As Zstandard frames where that pays
    Zstd,
}

impl Stored {
    const fn encoding(self) -> Encoding {
        match self {
            Self::Raw => Encoding::Raw,
            Self::Lz4 => Encoding::Lz4,
            Self::Zstd => Encoding::Zstd,
        }
    }
}

pub(crate) fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let name = || args.file.display().to_string();
    let encoding = args.encoding.encoding();
    let mut source = input::either(&args.file, Options { encoding, ..Options::default() })?;
    let draft = Draft::new(&args.output)?;
    let mut out = BufWriter::with_capacity(256 << 10, draft.file());
    match (args.to, source.origin()) {
        (Form::Qemu, _) => {
            out = from_vmstream(source, out, transcode::Form::Same).with_context(name)?;
        }
        (Form::QemuPrecopy, _) => {
            out = from_vmstream(source, out, transcode::Form::Precopy).with_context(name)?;
        }
        // As it comes it is one, with all that the way back needs where it is needed.
        (Form::Sequential, Origin::Qemu) => {
            io::copy(&mut source, &mut out).with_context(name)?;
        }
        (Form::Sequential | Form::Mappable, _) => {
            drop(out);
            return between_ours(args, Reader::new(Box::new(source)), draft);
        }
    }
    out.flush()?;
    drop(out);
    draft.keep()?;
    Ok(ExitCode::SUCCESS)
}

/// From one form of ours to another.
fn between_ours(
    args: &ConvertArgs,
    reader: Reader<Source>,
    draft: Draft,
) -> anyhow::Result<ExitCode> {
    let name = || args.file.display().to_string();
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut conversion = Conversion {
        reader,
        folder: folder.unwrap_or(Path::new(".")).to_owned(),
        encoding: args.encoding.encoding(),
        memory: Files { page: 1, files: BTreeMap::new() },
        tail: Tail::default(),
    };
    if args.to == Form::Mappable {
        let mut out = Sparse::new(draft.file().try_clone()?);
        conversion.run(&mut out, Form::Mappable).with_context(name)?;
        out.finish()?;
    } else {
        let mut out = BufWriter::with_capacity(256 << 10, draft.file());
        conversion.run(&mut out, Form::Sequential).with_context(name)?;
        out.flush()?;
    }
    draft.keep()?;
    Ok(ExitCode::SUCCESS)
}

/// What is written when memory has been.
#[derive(Default)]
struct Tail {
    notes: Vec<Note>,
    switch: Option<Switch>,
    devices: Vec<Vec<DeviceRecord>>,
}

struct Conversion {
    reader: Reader<Source>,
    folder: PathBuf,
    encoding: Encoding,
    memory: Files,
    tail: Tail,
}

impl Conversion {
    fn run(&mut self, out: &mut impl Write, form: Form) -> anyhow::Result<()> {
        let hello = match self.reader.next_event()? {
            Some(Event::Hello(hello)) if hello.purpose == Purpose::State => hello,
            _ => return Err(unfit("it is no machine's state")),
        };
        let mut writer = Writer::new(out, &hello)?;
        while let Some(event) = self.reader.next_event()? {
            match event {
                Event::Schema(id, schema) => writer.schema_as(id, &schema)?,
                Event::Manifest(manifest) => {
                    self.begin(&manifest, form)?;
                    writer.manifest(&manifest)?;
                }
                Event::Verdict(verdict) => writer.verdict(&verdict)?,
                Event::Disk(pages) => writer.disk(&pages)?,
                Event::Pages(pages) if form == Form::Sequential => writer.pages(&pages)?,
                Event::Pages(pages) => {
                    if pages.runs().iter().any(|run| run.kind == RunKind::Absent) {
                        return Err(unfit("pages of it are in a parent"));
                    }
                    let page = usize::try_from(self.memory.page).unwrap_or(usize::MAX);
                    chain::apply(&pages, page, &mut self.memory)?;
                }
                Event::Ram(ram) if form == Form::Sequential => self.as_pages(&ram, &mut writer)?,
                Event::Ram(ram) => self.memory.take(&mut self.reader, &ram)?,
                Event::Note(note) => self.tail.notes.push(note),
                Event::Switch(switch) => self.tail.switch = Some(switch),
                Event::Devices(records) => self.tail.devices.push(records),
                Event::Abort(finding) => {
                    return Err(unfit(format!("its writer gave up: {finding}")));
                }
                _ => {}
            }
        }
        self.reader.expect_end()?;
        self.end(writer, form)
    }

    fn begin(&mut self, manifest: &Manifest, form: Form) -> anyhow::Result<()> {
        self.memory.page = manifest.page_size;
        if form == Form::Sequential {
            return Ok(());
        }
        if manifest.parent.is_some() {
            return Err(unfit("pages that it does not mention are in a parent"));
        }
        for (number, region) in (0..).zip(&manifest.memory) {
            let file = tempfile::tempfile_in(&self.folder)?;
            file.set_len(region.bytes)?;
            self.memory.files.insert(number, file);
        }
        Ok(())
    }

    /// Writes a ram frame as frames of pages.
    fn as_pages<W: Write>(&mut self, ram: &Ram, writer: &mut Writer<W>) -> anyhow::Result<()> {
        let page_size = usize::try_from(self.memory.page)?;
        let mut builder = PagesBuilder::new(ram.region, page_size, self.encoding);
        let mut page = vec![0; page_size];
        let first = ram.offset / self.memory.page.max(1);
        let count = ram.length / self.memory.page.max(1);
        for number in first..first.saturating_add(count) {
            let mut rest = page.as_mut_slice();
            while !rest.is_empty() {
                let got = self.reader.read_ram(rest)?;
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

    fn end<W: Write>(&mut self, mut writer: Writer<W>, form: Form) -> anyhow::Result<()> {
        for (region, file) in std::mem::take(&mut self.memory.files) {
            write_region(region, file, &mut writer)?;
        }
        for note in std::mem::take(&mut self.tail.notes) {
            writer.note(&note)?;
        }
        let switch = self.tail.switch.take().ok_or_else(|| unfit("it has no switch"))?;
        writer.switch(&switch)?;
        for records in std::mem::take(&mut self.tail.devices) {
            writer.devices(&records, Finality::Final)?;
        }
        if form == Form::Mappable {
            writer.finish_with_index()?
        } else {
            writer.finish()?
        };
        Ok(())
    }
}

fn write_region<W: Write>(
    region: u32,
    mut file: File,
    writer: &mut Writer<W>,
) -> anyhow::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let ram = Ram { region, offset: 0, chunk: CHUNK, length };
    if length > 0 {
        writer.ram(&ram, CHUNK, &mut file.take(length))?;
    }
    Ok(())
}
