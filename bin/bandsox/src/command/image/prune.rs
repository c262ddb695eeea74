//! `bandsox image prune`

use bandsox_oci::{ImageStore, Listed, Removed};
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
    let here = images::open(store)?;
    let removed = if args.all { remove_unused(store, &here)? } else { Vec::new() };
    let pruned = here.prune(&images::users(store))?;
    let freed = removed.iter().map(|it| it.bytes).fold(pruned.bytes(), u64::saturating_add);
    if ui.is_json() {
        return ui.json(&json!({"images": removed, "items": pruned.items, "bytes": freed}));
    }
    for image in &removed {
        ui.message(format!("Removed image {}", image.reference));
    }
    let files = match pruned.items.len() {
        0 if removed.is_empty() => {
            ui.message("Nothing to remove.");
            return Ok(());
        }
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    ui.message(format!("Removed {files} of no image; {} freed", human_bytes(freed)));
    Ok(())
}

fn remove_unused(store: &Store, here: &ImageStore) -> Result<Vec<Removed>, Failure> {
    let cwd = std::env::current_dir()?;
    let (users, mut removed) = (images::users(store), Vec::new());
    let listed = here.list()?;
    for Listed { record, .. } in &listed {
        let base = store.paths().images().join(&record.base);
        if users(&base, &images::other_names(&listed, record)).is_empty() {
            removed.push(here.remove(&record.reference, &cwd, &images::users(store))?);
        }
    }
    Ok(removed)
}
