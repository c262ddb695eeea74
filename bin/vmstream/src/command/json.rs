//! `json`: a stream as JSON.

use std::io::{self, BufWriter, Cursor, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::input::{self, Beside};

/// Write a stream as JSON, a frame a line
///
/// `from-json` makes the same stream of it again, byte for byte where nothing was edited.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream json vm.stream | jq -c 'select(.kind == \"device\")'\n  vmstream json vm.stream | sed s/old/new/ | vmstream from-json - -o edited.stream"
)]
pub(crate) struct JsonArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
}

pub(crate) fn run(args: &JsonArgs) -> anyhow::Result<ExitCode> {
    let source = input::stream(&args.file, &args.beside)?.into_inner();
    let out = BufWriter::new(io::stdout().lock());
    let written = vmstream::json::to_json(Cursor::new([]).chain(source), out);
    written.with_context(|| args.file.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
