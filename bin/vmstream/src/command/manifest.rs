//! `manifest`: the contract of a running QEMU.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use vmstream::Writer;
use vmstream_qmp::Contract;

use crate::input::Draft;

/// How long QEMU may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ask a QEMU what its guest can see, and write it as a contract
///
/// The QEMU may run, or wait with `-incoming defer`. Nothing in it is changed.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream manifest --qmp source.sock -o source.contract\n  vmstream manifest --qmp destination.sock | vmstream check source.contract --against -"
)]
pub(crate) struct ManifestArgs {
    /// QEMU's QMP socket
    #[arg(long, value_name = "SOCKET")]
    qmp: PathBuf,
    /// Where to write the contract [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &ManifestArgs) -> anyhow::Result<ExitCode> {
    let mut client = bandsox_qmp::Client::connect(&args.qmp, PATIENCE)?;
    let contract = vmstream_qmp::read(&mut client)?;
    if let Some(path) = &args.output {
        let draft = Draft::new(path)?;
        write(&contract, draft.file())?;
        draft.keep()?;
    } else {
        write(&contract, io::stdout().lock())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(contract: &Contract, out: impl Write) -> anyhow::Result<()> {
    let mut writer = Writer::new(out, &contract.hello()).context("a contract")?;
    writer.manifest(&contract.manifest())?;
    let (mut out, _) = writer.finish()?;
    Ok(out.flush()?)
}
