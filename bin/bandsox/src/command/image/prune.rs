//! `bandsox image prune`

use bandsox_oci::ImageStore;
use bandsox_store::Store;
use serde_json::json;

use crate::failure::Failure;
use crate::images;
use crate::output::{Ui, human_bytes};

/// Remove what belongs to no image and no VM
///
/// Removed are layers that no image has, the beginnings of pulls that nobody goes on with, and base
/// images that neither a name nor a VM uses. Nothing is removed that a VM may need, also if its
/// metadata are damaged.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox image prune
  bandsox image prune --all   # also images that no VM uses")]
pub(crate) struct PruneArgs {
    /// Remove images that no VM uses, too
    #[arg(long, short)]
    all: bool,
}

pub(super) fn run(ui: &Ui, store: &Store, args: &PruneArgs) -> Result<(), Failure> {
    let images = images::open(store)?;
    let removed = if args.all { remove_unused(store, &images)? } else { Vec::new() };
    let pruned = images.prune(&images::users(store))?;
    let freed = removed.iter().map(|it| it.bytes).fold(pruned.bytes(), u64::saturating_add);
    if ui.is_json() {
        return ui.json(&json!({"images": removed, "items": pruned.items, "bytes": freed}));
    }
    for image in &removed {
        ui.message(format!("Removed image {}", image.reference));
    }
    let count = pruned.items.len();
    ui.message(format!("Removed {count} files of no image; {} freed", human_bytes(freed)));
    Ok(())
}

fn remove_unused(store: &Store, images: &ImageStore) -> Result<Vec<bandsox_oci::Removed>, Failure> {
    let cwd = std::env::current_dir()?;
    let (users, mut removed) = (images::users(store), Vec::new());
    for listed in images.list()? {
        let base = store.paths().images().join(&listed.record.base);
        if users(&base).is_empty() {
            let name = &listed.record.reference;
            removed.push(images.remove(name, &cwd, &images::users(store))?);
        }
    }
    Ok(removed)
}
