//! `bandsox rm`

use bandsox_spec::VmId;
use bandsox_store::{RemoveError, ResolveError, Store};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::failure::Failure;
use crate::output::Ui;
use crate::storage;

/// Remove VMs: metadata, disk, sockets and logs, but never an image
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox rm web
  bandsox rm -f web db")]
pub(crate) struct RmArgs {
    /// VMs to remove, by id, id prefix or name
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,

    /// Kill a VM that runs; do not complain about one that does not exist
    #[arg(long, short)]
    force: bool,
}

/// Removes the VMs, one after the other.
pub(crate) fn run(ui: &Ui, store: &Store, args: &RmArgs) -> Result<(), Failure> {
    let RmArgs { vms, force } = args;
    storage::each(ui, vms, |vm| {
        if *force && matches!(store.resolve(vm), Err(ResolveError::NotFound { .. })) {
            ui.message(format!("There is no VM {vm:?}"));
            return Ok(());
        }
        let id = storage::resolve(store, vm)?;
        if *force {
            kill(store, &id)?;
        }
        remove(store, &id)?;
        ui.message(format!("Removed {vm}"));
        Ok(())
    })
}

/// Removes a VM that does not run.
pub(super) fn remove(store: &Store, id: &VmId) -> Result<(), Failure> {
    match store.remove(id) {
        Ok(_) => Ok(()),
        Err(error @ RemoveError::Running { .. }) => {
            Err(Failure::from(error).hint(format!("run `bandsox stop {id}` or use rm -f")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that a VM does not run: by its monitor, or together with it.
pub(super) fn kill(store: &Store, id: &VmId) -> Result<(), Failure> {
    if !store.is_live(id)? {
        return Ok(());
    }
    let asked = storage::monitor(store, id).map(|mut monitor| monitor.kill());
    if asked.is_ok() && storage::settled(store, id).is_ok() {
        return Ok(());
    }
    // It hangs. Its engine cannot outlive it.
    let holder = store.holder(id)?.and_then(|holder| Pid::from_raw(holder.pid.cast_signed()));
    if let Some(pid) = holder {
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        // Only now is it certain that the number still means the same process.
        if store.is_live(id)? {
            rustix::process::pidfd_send_signal(process, Signal::KILL)?;
        }
    }
    storage::settled(store, id)
}
