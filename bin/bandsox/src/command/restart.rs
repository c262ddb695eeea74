//! `bandsox restart`

use bandsox_store::Store;

use super::start::{self, StartMode};
use super::stop;
use crate::failure::Failure;
use crate::output::Ui;
use crate::storage;

/// Stop VMs and start them again
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox restart web")]
pub(crate) struct RestartArgs {
    /// VMs to restart, by id, id prefix or name
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,

    /// Seconds that the guest has for powering off; 0 kills it at once
    #[arg(long, short, value_name = "SECONDS", default_value_t = 10)]
    timeout: u32,

    #[command(flatten)]
    mode: StartMode,
}

/// Restarts the VMs, one after the other; one that does not run is started.
pub(crate) fn run(ui: &Ui, store: &Store, args: &RestartArgs) -> Result<(), Failure> {
    let RestartArgs { vms, timeout, mode } = args;
    let restart = |vm: &str| {
        let id = storage::resolve(store, vm)?;
        stop::stop(store, &id, *timeout)?;
        let started = start::start(ui, store, &id, *mode)?;
        start::report(ui, &id, vm, &started)
    };
    storage::each_shown(ui, vms, restart, |_| Ok(()))
}
