//! The command line: global options and the list of commands.
//!
//! Doc comments are the help. Each command's own arguments live with it in `command/`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::command;

/// Run untrusted code in microVMs and move files in and out of them at the speed of vsock
///
/// A VM is named by its id, an unambiguous prefix of it, or its name. Results go to standard
/// output, messages to standard error.
#[derive(Parser, Debug)]
#[command(
    name = "bandsox",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_long_args = false,
    after_long_help = EXIT_CODES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The one place that documents exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0          success
  1          the command failed; the reason is on standard error
  2          the command line was wrong
  130, 143   interrupted by Ctrl-C, by SIGTERM (128 + the signal)
`exec`, `run` and `terminal` exit as the command in the guest did, and with
  124        the command ran longer than --timeout and was killed
  125        bandsox itself failed: no such VM, not running, connection lost
  126, 127   the command cannot be executed, does not exist
  128+N      the command was killed by signal N

Quick start:
  bandsox init
  bandsox create ubuntu:24.04 --name web
  bandsox start web
  bandsox exec web -- uname -a
  bandsox rm -f web";

/// Options that every command takes.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory that holds VMs, images and the kernel [default: /var/lib/bandsox]
    #[arg(
        long,
        global = true,
        env = "BANDSOX_STORAGE",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) storage: Option<PathBuf>,

    /// How results are printed
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,

    /// Print errors and results only: no messages, no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Say more; twice for debugging, three times for everything
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// How messages and logs are written, one line each
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Plain lines
    Text,
    /// One JSON object a line
    Json,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Init(command::init::InitArgs),
    Create(command::create::CreateArgs),
    Start(command::start::StartArgs),
    Stop(command::stop::StopArgs),
    Restart(command::restart::RestartArgs),
    Pause(command::pause::PauseArgs),
    Resume(command::resume::ResumeArgs),
    Rm(command::rm::RmArgs),
    Rename(command::rename::RenameArgs),
    #[command(visible_aliases = ["ls", "ps"])]
    List(command::list::ListArgs),
    Inspect(command::inspect::InspectArgs),
    Logs(command::logs::LogsArgs),
    Exec(command::exec::ExecArgs),
    Terminal(command::terminal::TerminalArgs),
    Run(command::run::RunArgs),
    Upload(command::upload::UploadArgs),
    Download(command::download::DownloadArgs),
    Cp(command::cp::CpArgs),
    Image(command::image::ImageArgs),
    Df(command::df::DfArgs),
    Doctor(command::doctor::DoctorArgs),
    Cleanup(command::cleanup::CleanupArgs),
    Completion(command::completion::CompletionArgs),
    Bench(command::bench::BenchArgs),
    #[command(name = "__monitor", hide = true)]
    Monitor(command::internal::MonitorArgs),
    #[command(name = "__jail", hide = true)]
    Jail(command::internal::PassedArgs),
    #[command(name = "__probe", hide = true)]
    Probe(command::internal::PassedArgs),
}

impl Command {
    /// Whether it is one of those that the program starts itself as: they log in their own way.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(self, Self::Monitor(_) | Self::Jail(_) | Self::Probe(_))
    }
}
