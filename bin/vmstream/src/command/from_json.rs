//! `from-json`: JSON as a stream.

use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::input;

/// Make a stream of what `json` wrote
///
/// Checksums, counts, digest and index are made anew, so that an edited stream is whole.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  vmstream json vm.stream | sed s/old/new/ | vmstream from-json - -o edited.stream"
)]
pub(crate) struct FromJsonArgs {
    /// The JSON; `-` for standard input
    file: PathBuf,
    /// Where to write the stream [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &FromJsonArgs) -> anyhow::Result<ExitCode> {
    let source = BufReader::new(input::bytes(&args.file)?);
    let name = || args.file.display().to_string();
    if let Some(path) = &args.output {
        let draft = input::Draft::new(path)?;
        let mut out = BufWriter::new(draft.file());
        vmstream::json::from_json(source, &mut out).with_context(name)?;
        out.flush()?;
        drop(out);
        draft.keep()?;
    } else {
        let mut out = BufWriter::new(io::stdout().lock());
        vmstream::json::from_json(source, &mut out).with_context(name)?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
