//! `bandsox start`

use bandsox_monitor::{SpawnError, SpawnRequest, Started, spawn};
use bandsox_spec::VmId;
use bandsox_store::Store;

use crate::cli::LogFormat;
use crate::failure::Failure;
use crate::output::Ui;
use crate::storage;

/// Start VMs and wait until their agents answer
///
/// A stopped VM starts again with its disk as it was.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox start web
  bandsox start web db --verbose
  bandsox start old-vm --serial-only")]
pub(crate) struct StartArgs {
    /// VMs to start, by id, id prefix or name
    #[arg(required = true, value_name = "VM")]
    pub(super) vms: Vec<String>,

    #[command(flatten)]
    pub(super) mode: StartMode,
}

/// How VMs are started; `start`, `restart` and `run` share it.
#[derive(clap::Args, Debug, Clone, Copy)]
pub(crate) struct StartMode {
    /// Do without vsock: everything goes over the serial port, slower
    #[arg(long)]
    pub(super) serial_only: bool,

    /// Run the engine without its jail; for debugging only
    #[arg(long)]
    pub(super) no_jail: bool,
}

/// Starts the VMs, one after the other.
pub(crate) fn run(ui: &Ui, store: &Store, args: &StartArgs) -> Result<(), Failure> {
    let StartArgs { vms, mode } = args;
    let start = |vm: &str| {
        let id = storage::resolve(store, vm)?;
        let started = start(ui, store, &id, *mode)?;
        report(ui, &id, vm, &started)
    };
    storage::each_shown(ui, vms, start, |_| Ok(()))
}

/// Starts one VM and says what the user should know.
pub(super) fn start(
    ui: &Ui,
    store: &Store,
    id: &VmId,
    mode: StartMode,
) -> Result<Started, Failure> {
    let request = SpawnRequest {
        storage: store.paths().root().to_path_buf(),
        id: id.clone(),
        serial_only: mode.serial_only,
        no_jail: mode.no_jail,
        json_log: ui.log_format() == LogFormat::Json,
        verbose: ui.verbosity() > 0,
    };
    let mut lease_shown = false;
    let started = spawn(&request, &mut |line| {
        lease_shown |= line.contains("Vsock enabled:");
        ui.passed_on(line);
    });
    let started = started.map_err(|error| {
        if let SpawnError::Failed { message, hint } = error {
            Failure::new(message).context(format!("cannot start VM {id}")).hint_if(hint)
        } else {
            error.into()
        }
    })?;
    for warning in &started.warnings {
        ui.warn(warning);
    }
    if let (Some(cid), Some(port), false) = (started.cid, started.port, lease_shown) {
        ui.message(format!("Vsock enabled: CID={cid}, Port={port}"));
    }
    Ok(started)
}

/// Says that a VM runs, and gives what programs are told of it.
pub(super) fn report(
    ui: &Ui,
    id: &VmId,
    named: &str,
    started: &Started,
) -> Result<serde_json::Value, Failure> {
    let seconds = started.ready_ms / 1000;
    let tenths = started.ready_ms % 1000 / 100;
    ui.message(format!("Started {named} in {seconds}.{tenths} s"));
    let mut told = serde_json::to_value(started)?;
    told["id"] = serde_json::json!(id);
    Ok(told)
}
