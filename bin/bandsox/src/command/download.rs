//! `bandsox download`

use std::ffi::OsString;
use std::path::PathBuf;

use bandsox_store::Store;

use super::upload::Route;
use crate::failure::Failure;
use crate::output::Ui;
use crate::storage::{self, Vm};
use crate::transfer;

/// Copy a file or a directory out of a VM
///
/// The VM runs on meanwhile. A file appears under its name once it is complete and verified.
/// Nothing is written outside LOCAL, whatever the guest sends.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox download web /tmp/test.txt downloaded.txt
  bandsox download web /srv/site ./backup/    # becomes ./backup/site
  bandsox download web /etc/os-release - | grep ^ID")]
pub(crate) struct DownloadArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,

    /// File or directory in the VM
    #[arg(value_name = "REMOTE")]
    remote: OsString,

    /// Where it goes; into it, if it is a directory or ends in /; - for standard output
    #[arg(value_name = "LOCAL")]
    local: PathBuf,

    #[command(flatten)]
    route: Route,
}

/// Copies out of the VM.
pub(crate) fn run(ui: &Ui, store: &Store, args: &DownloadArgs) -> Result<(), Failure> {
    let DownloadArgs { vm, remote, local, route } = args;
    let id = storage::resolve(store, vm)?;
    transfer::download(Vm { ui, store, id: &id }, remote, local, *route)
}
