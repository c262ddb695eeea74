//! `bandsox pause`

use bandsox_store::Store;

use crate::failure::Failure;
use crate::output::Ui;
use crate::storage;

/// Stop the virtual CPUs of VMs where they are
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox pause web")]
pub(crate) struct PauseArgs {
    /// VMs to pause, by id, id prefix or name
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,
}

/// Pauses the VMs, one after the other.
pub(crate) fn run(ui: &Ui, store: &Store, args: &PauseArgs) -> Result<(), Failure> {
    let PauseArgs { vms } = args;
    storage::each(ui, vms, |vm| {
        let id = storage::resolve(store, vm)?;
        let mut monitor = storage::monitor(store, &id)?;
        monitor
            .pause()
            .map_err(|error| storage::refused(error).context(format!("cannot pause VM {vm}")))?;
        ui.message(format!("Paused {vm}"));
        Ok(())
    })
}
