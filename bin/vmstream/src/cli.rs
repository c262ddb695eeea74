//! The command line.
//!
//! Doc comments are the help. Each command's own arguments live with it in `command/`.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::command;

/// Look into VM state streams: what is in them, what differs, and who can load them
///
/// A FILE is a stream; `-` is standard input. Results go to standard output, messages to standard error.
#[derive(Parser, Debug)]
#[command(
    name = "vmstream",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_long_args = false,
    after_long_help = MORE
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The one place that documents exit codes.
const MORE: &str = "\
Exit codes:
  0     success
  1     the two differ, or the destination refuses
  2     an input is broken or cannot be read, or an output cannot be written
  64    the command line was wrong
  130   somebody interrupted it; 143: it was asked to terminate
  141   whoever read the output closed it

Examples:
  vmstream inspect vm.stream
  vmstream get vm.stream 0000:00:03.0/virtio-net.virtio.net.status
  vmstream json vm.stream | sed s/old/new/ | vmstream from-json - -o edited.stream
  vmstream manifest --qmp source.sock -o source.contract
  vmstream check source.contract --against destination.contract
  vmstream bridge send --qmp source.sock --to host:4444";

/// How a result is printed.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How the result is printed
    #[arg(long = "output", short = 'o', value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Shape {
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Inspect(command::inspect::InspectArgs),
    Tree(command::tree::TreeArgs),
    Get(command::get::GetArgs),
    Json(command::json::JsonArgs),
    FromJson(command::from_json::FromJsonArgs),
    Schema(command::schema::SchemaArgs),
    Ram(command::ram::RamArgs),
    Diff(command::diff::DiffArgs),
    Verify(command::verify::VerifyArgs),
    Check(command::check::CheckArgs),
    Manifest(command::manifest::ManifestArgs),
    Report(command::report::ReportArgs),
    Convert(command::convert::ConvertArgs),
    Bridge(command::bridge::BridgeArgs),
}
