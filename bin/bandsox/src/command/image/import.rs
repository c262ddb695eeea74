//! `bandsox image import`

use std::path::PathBuf;

use bandsox_oci::{Layers, PullOptions};
use bandsox_store::Store;

use crate::failure::{Explain as _, Failure};
use crate::images::{self, MachineArgs};
use crate::output::Ui;

/// Give a name to an image or root file system that is in a file or directory
///
/// What PATH is, its content says: an .ext4 disk, a tar of a root file system, a directory of one,
/// an OCI layout, an OCI archive, or what `docker save` wrote.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox image import ./rootfs.tar mine:1
  bandsox image import ./saved.tar web
  bandsox create mine:1")]
pub(crate) struct ImportArgs {
    /// File or directory
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Name that it gets, as one in a registry, with or without a tag
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    machine: MachineArgs,
}

pub(super) fn run(ui: &Ui, store: &Store, args: &ImportArgs) -> Result<(), Failure> {
    let ImportArgs { path, name, machine: MachineArgs { platform } } = args;
    let options = PullOptions { platform: platform.clone(), ..PullOptions::default() };
    let watch = images::Watch::begin(ui, name);
    let imported = images::open(store)?
        .import(path, name, &options, &Layers::default(), &|step| watch.see(&step))
        .map_err(images::advised)
        .context(format!("cannot import {} as {}", path.display(), images::quoted(name)))?;
    watch.end(&imported);
    if ui.is_json() {
        return ui.json(&imported.record);
    }
    ui.line(&imported.record.reference)
}
