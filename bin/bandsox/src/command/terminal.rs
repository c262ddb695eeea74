//! `bandsox terminal`

use std::ffi::OsString;
use std::process::ExitCode;

use bandsox_client::exec::Begin;
use bandsox_store::Store;

use super::exec::{self, ExecOptions, Job};
use crate::failure::Failure;
use crate::output::Ui;
use crate::session::{self, Manner};
use crate::signals::Signals;
use crate::storage::{self, Vm};

/// Open a shell in a VM
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox terminal web
  bandsox terminal web --shell /bin/bash")]
pub(crate) struct TerminalArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,

    /// Shell to run
    #[arg(long, value_name = "PATH", default_value = "/bin/sh")]
    shell: OsString,

    /// User to run as: NAME, UID or UID:GID
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
}

/// Runs the shell on the user's terminal.
pub(crate) fn run(ui: &Ui, store: &Store, args: TerminalArgs) -> Result<ExitCode, Failure> {
    let TerminalArgs { vm, shell, user } = args;
    let id = storage::resolve(store, &vm)?;
    let mut signals = Signals::catch()?;
    let options = ExecOptions { interactive: true, tty: true, workdir: None, user, timeout: None };
    let session = exec::fresh_session()?;
    let command = [shell];
    let job = Job { command: &command, env: &[], options: &options, makes_workdir: false };
    let request = job.request(store, &id, session);
    let manner = Manner { stdin: true, tty: true, leave: false };
    session::attend(Vm { ui, store, id: &id }, Begin::Run(request), manner, &mut signals)
}
