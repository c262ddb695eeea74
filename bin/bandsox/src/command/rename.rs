//! `bandsox rename`

use bandsox_spec::VmName;
use bandsox_store::Store;

use crate::failure::{Explain as _, Failure};
use crate::output::Ui;
use crate::storage;

/// Give a VM another name
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox rename web web-old")]
pub(crate) struct RenameArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,

    /// New name
    #[arg(value_name = "NAME")]
    name: VmName,
}

/// Renames the VM, running or not.
pub(crate) fn run(ui: &Ui, store: &Store, args: &RenameArgs) -> Result<(), Failure> {
    let RenameArgs { vm, name } = args;
    let id = storage::resolve(store, vm)?;
    store.rename(&id, name).context(format!("cannot rename VM {vm}"))?;
    ui.message(format!("Renamed {vm} to {name}"));
    Ok(())
}
