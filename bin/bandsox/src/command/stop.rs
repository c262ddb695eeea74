//! `bandsox stop`

use bandsox_client::RequestError;
use bandsox_spec::VmId;
use bandsox_store::Store;

use crate::failure::Failure;
use crate::output::Ui;
use crate::storage::{self, NoMonitor};

/// Shut VMs down
///
/// The guest is asked to power off, so that its disk is synced. A guest that does not within the
/// timeout is killed.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox stop web
  bandsox stop web db --timeout 60")]
pub(crate) struct StopArgs {
    /// VMs to stop, by id, id prefix or name
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,

    /// Seconds that the guest has for powering off; 0 kills it at once
    #[arg(long, short, value_name = "SECONDS", default_value_t = 10)]
    timeout: u32,
}

/// Stops the VMs, one after the other.
pub(crate) fn run(ui: &Ui, store: &Store, args: &StopArgs) -> Result<(), Failure> {
    let StopArgs { vms, timeout } = args;
    storage::each(ui, vms, |vm| {
        let id = storage::resolve(store, vm)?;
        match stop(store, &id, *timeout)? {
            Stopped::Now => ui.message(format!("Stopped {vm}")),
            Stopped::Before => ui.message(format!("{vm} is not running")),
        }
        Ok(())
    })
}

/// Whether there was anything to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It ran until now.
    Now,
    /// It did not run.
    Before,
}

/// Stops one VM. Returns when everything that it held is free again.
pub(super) fn stop(store: &Store, id: &VmId, seconds: u32) -> Result<Stopped, Failure> {
    let mut monitor = match storage::monitor(store, id) {
        Ok(monitor) => monitor,
        Err(NoMonitor::Down(_)) if store.read(id).is_ok() => return Ok(Stopped::Before),
        Err(other) => return Err(other.into()),
    };
    match monitor.stop(u64::from(seconds).saturating_mul(1000)) {
        // A monitor that ends right after its VM may not get to say so.
        Ok(()) | Err(RequestError::Closed) => {}
        Err(error) => {
            return Err(storage::refused(error).context(format!("cannot stop VM {id}")));
        }
    }
    storage::settled(store, id)?;
    Ok(Stopped::Now)
}
