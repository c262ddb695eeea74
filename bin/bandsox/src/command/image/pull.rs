//! `bandsox image pull`

use bandsox_oci::Policy;
use bandsox_store::Store;

use crate::failure::{Explain as _, Failure};
use crate::images::{self, PullArgs};
use crate::output::Ui;
use crate::storage;

/// Bring images here, or up to date, and print their digests
///
/// Layers come in parallel, each byte is checked, and a pull that was interrupted goes on where it
/// was. Logins are Docker's (`~/.docker/config.json`); mirrors are in `images.json` in the storage
/// directory and in BANDSOX_REGISTRY_MIRROR.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox image pull ubuntu:24.04
  bandsox image pull ghcr.io/owner/name@sha256:…
  bandsox image pull oci:./layout:latest
  docker save web | bandsox image pull docker-archive:-")]
pub(crate) struct PullImageArgs {
    /// Images to pull, named as `bandsox image --help` says
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,

    #[command(flatten)]
    pull: PullArgs,
}

pub(super) fn run(ui: &Ui, store: &Store, args: &PullImageArgs) -> Result<(), Failure> {
    let here = images::open(store)?;
    let pull = |image: &str| {
        let pulled = images::pull(ui, (store, &here), image, Policy::Always, &args.pull);
        Ok(pulled.context(format!("cannot pull {}", images::quoted(image)))?.record)
    };
    storage::each_shown(ui, &args.images, pull, |record| {
        let digest = record.manifest_digest.as_ref().map(ToString::to_string);
        ui.line(digest.as_ref().unwrap_or(&record.base))
    })
}
