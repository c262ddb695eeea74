//! `convert`: the same machine in another form.

mod assemble;
mod copy;
mod machine;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use vmstream::Reader;
use vmstream::archive::Sparse;
use vmstream::message::Encoding;
use vmstream_transcode::{self as transcode, Options, Origin, from_vmstream};

use crate::failure::unfit;
use crate::input::{self, Beside, Draft, Source};
use crate::parents::Parents;

/// Write a stream in another form
///
/// `mappable` has each region as one piece that can be mapped, and an index; `sequential` has pages, and can be sent.
/// `incremental` has only the pages that are not what they are in another stream, which it names by its digest: `--parent`. With `--parent`,
/// the other forms of an incremental stream have all pages again.
/// What the machine is stays the same: `diff` finds nothing. Schemas, notes and records, provisional ones too, keep their order; in the
/// forms that have memory in one place, it stands before the source's stop. Filler, frames of unknown kinds and keys that begin with x- are left out.
///
/// A stream that was QEMU's becomes QEMU's again: `qemu` gives the same bytes but for values that were changed,
/// `qemu-precopy` what `-incoming` loads from a file, whatever form it had. Of a multifd set, FILE is the main channel.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConvertArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    /// The form
    #[arg(long, value_name = "FORM")]
    to: Form,
    #[command(flatten)]
    parents: Parents,
    /// How pages are stored in a sequential or incremental stream
    #[arg(long, value_name = "ENCODING", default_value = "raw")]
    encoding: Stored,
    /// Where to write it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

const EXAMPLES: &str = "Examples:
  vmstream convert vm.stream --to mappable -o vm.file
  vmstream convert vm.file --to sequential --encoding zstd -o vm.stream
  vmstream convert qemu.mig --to sequential -o vm.stream
  vmstream convert main.mig --channel c0.mig --channel c1.mig --to sequential -o vm.stream
  vmstream convert vm.stream --to qemu -o qemu.mig
  vmstream convert tuesday --to incremental --parent monday -o tuesday.inc
  vmstream convert wednesday --to incremental --parent tuesday.inc --parent monday -o wednesday.inc
  vmstream convert wednesday.inc --parent tuesday.inc --parent monday --to sequential -o wednesday";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Pages, from front to back
    Sequential,
    /// Memory that can be mapped, and an index
    Mappable,
    /// Only the pages that are not what they are in the parent
    Incremental,
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
    match args.to {
        Form::Incremental if args.parents.is_empty() => {
            return Err(unfit("an incremental stream needs --parent"));
        }
        Form::Qemu | Form::QemuPrecopy if !args.parents.is_empty() => {
            let why = "QEMU's streams have no parents: make it --to sequential first";
            return Err(unfit(why));
        }
        _ => {}
    }
    let options = Options { encoding, ..Options::default() };
    let mut source = input::either(&args.file, &args.beside, options)?;
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
        (Form::Sequential, Origin::Qemu) if args.parents.is_empty() => {
            io::copy(&mut source, &mut out).with_context(name)?;
        }
        (Form::Sequential | Form::Mappable | Form::Incremental, _) => {
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
    if args.to == Form::Mappable {
        let mut out = Sparse::new(draft.file().try_clone()?);
        assemble::run(args, reader, &mut out).with_context(name)?;
        out.finish()?;
    } else {
        let mut out = BufWriter::with_capacity(256 << 10, draft.file());
        if args.to == Form::Sequential && args.parents.is_empty() {
            copy::sequential(reader, args.encoding.encoding(), &mut out).with_context(name)?;
        } else {
            assemble::run(args, reader, &mut out).with_context(name)?;
        }
        out.flush()?;
    }
    draft.keep()?;
    Ok(ExitCode::SUCCESS)
}
