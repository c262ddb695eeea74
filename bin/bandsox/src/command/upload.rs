//! `bandsox upload`

use std::ffi::OsString;
use std::path::PathBuf;

use bandsox_store::Store;

use crate::failure::Failure;
use crate::output::Ui;
use crate::storage::{self, Vm};
use crate::transfer;

/// Copy a file or a directory into a VM
///
/// The VM runs on meanwhile. A file appears under its name once it is complete and verified:
/// whatever happens, REMOTE is the old file or the new one.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox upload web test.txt /tmp/test.txt
  bandsox upload web ./site /srv/             # becomes /srv/site
  date | bandsox upload web - /etc/stamp")]
pub(crate) struct UploadArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,

    /// File or directory to copy; - for standard input
    #[arg(value_name = "LOCAL")]
    local: PathBuf,

    /// Where it goes in the VM; into it, if it is a directory or ends in /
    #[arg(value_name = "REMOTE")]
    remote: OsString,

    #[command(flatten)]
    pub(super) route: Route,
}

/// How the bytes travel; `upload`, `download` and `cp` share it.
#[derive(clap::Args, Debug, Clone, Copy)]
pub(crate) struct Route {
    /// Protocol to speak with the agent; v1 knows single regular files only
    #[arg(long, value_name = "v1|v2", default_value = "v2", hide_possible_values = true)]
    pub(crate) protocol: Protocol,

    /// Transport to use [default: vsock, serial where there is no vsock]
    #[arg(long, value_name = "vsock|serial", hide_possible_values = true)]
    pub(crate) transport: Option<Transport>,
}

/// A file protocol of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// JSON lines
    V1,
    /// Raw bytes
    V2,
}

/// A transport between host and guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// virtio-vsock
    Vsock,
    /// The serial link
    Serial,
}

/// Copies into the VM.
pub(crate) fn run(ui: &Ui, store: &Store, args: &UploadArgs) -> Result<(), Failure> {
    let UploadArgs { vm, local, remote, route } = args;
    let id = storage::resolve(store, vm)?;
    transfer::upload(Vm { ui, store, id: &id }, local, remote, *route)
}
