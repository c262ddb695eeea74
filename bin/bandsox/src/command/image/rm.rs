//! `bandsox image rm`

use bandsox_oci::RemoveError;
use bandsox_store::Store;

use crate::failure::{Explain as _, Failure};
use crate::images;
use crate::output::{Ui, human_bytes};
use crate::storage;

/// Remove images that no VM uses
///
/// Of several names for one image only the one named goes; with the last name goes the image. A name
/// under which a VM was made stays, and the error says which VM that is.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox image rm ubuntu:24.04
  bandsox image rm $(bandsox image ls -q)")]
pub(crate) struct RmImageArgs {
    /// Images, by name or digest
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn run(ui: &Ui, store: &Store, args: &RmImageArgs) -> Result<(), Failure> {
    let images = images::open(store)?;
    let cwd = std::env::current_dir()?;
    let remove = |image: &str| {
        let removed = images.remove(image, &cwd, &images::users(store)).map_err(|error| {
            let hint = if matches!(error, RemoveError::InUse { .. }) {
                Some("`bandsox rm VM` removes a VM")
            } else if matches!(error, RemoveError::Resolve(_)) {
                Some("`bandsox image ls` shows all images")
            } else {
                None
            };
            Failure::from(error).hint_if(hint.map(str::to_owned))
        });
        removed.context(format!("cannot remove image {}", images::quoted(image)))
    };
    storage::each_shown(ui, &args.images, remove, |removed| {
        let freed = human_bytes(removed.bytes);
        let what = if removed.base_removed { "" } else { "; its base has other names and stays" };
        ui.message(format!("Removed image {} ({freed} freed){what}", removed.reference));
        Ok(())
    })
}
