//! `bandsox __monitor`, `__jail`, `__probe`: what bandsox starts itself as.

use std::ffi::OsString;
use std::process::ExitCode;

use bandsox_spec::VmId;

use crate::cli::Global;

/// Own one VM until it ends
///
/// Standard input is the VM's lock, standard output takes the report of the start.
#[derive(clap::Args, Debug)]
pub(crate) struct MonitorArgs {
    id: VmId,

    #[arg(long)]
    serial_only: bool,

    #[arg(long)]
    no_jail: bool,

    #[arg(long)]
    json_log: bool,
}

/// Arguments that the crate behind the command reads itself
#[derive(clap::Args, Debug)]
pub(crate) struct PassedArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _args: Vec<OsString>,
}

/// Owns a VM until it ends.
pub(crate) fn monitor(global: Global, args: MonitorArgs) -> ExitCode {
    let MonitorArgs { id, serial_only, no_jail, json_log } = args;
    let Some(storage) = global.storage else { return ExitCode::FAILURE };
    let verbose = global.verbose > 0;
    bandsox_monitor::run(&bandsox_monitor::MonitorArgs {
        storage,
        id,
        serial_only,
        no_jail,
        json_log,
        verbose,
    })
}
