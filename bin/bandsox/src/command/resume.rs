//! `bandsox resume`

use bandsox_store::Store;

use crate::failure::Failure;
use crate::output::Ui;
use crate::storage;

/// Let paused VMs run on
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox resume web")]
pub(crate) struct ResumeArgs {
    /// VMs to resume, by id, id prefix or name
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,
}

/// Resumes the VMs, one after the other.
pub(crate) fn run(ui: &Ui, store: &Store, args: &ResumeArgs) -> Result<(), Failure> {
    let ResumeArgs { vms } = args;
    storage::each(ui, vms, |vm| {
        let id = storage::resolve(store, vm)?;
        let mut monitor = storage::monitor(store, &id)?;
        monitor
            .resume()
            .map_err(|error| storage::refused(error).context(format!("cannot resume VM {vm}")))?;
        ui.message(format!("Resumed {vm}"));
        Ok(())
    })
}
