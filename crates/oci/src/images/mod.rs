//! What is done with images that are there.

mod draft;
mod export;
mod import;
mod list;
mod prune;
mod remove;

pub use export::{Destination, ExportError, Output};
pub use import::ImportError;
pub use list::{Inspected, ListError, Listed, ResolveError};
pub use prune::{PruneError, Pruned, PrunedItem, PrunedKind};
pub use remove::{RemoveError, Removed};

use std::path::Path;

/// Says which VMs use a base image, but for those that were made under one of some names, its other ones; empty for none.
/// Whoever cannot tell must not answer "none".
pub type InUse<'a> = dyn Fn(&Path, &[&str]) -> Vec<String> + 'a;

/// How much room a file takes. Unit: bytes.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    path.symlink_metadata().map_or(0, |about| about.blocks().saturating_mul(512))
}
