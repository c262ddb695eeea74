//! `bandsox image inspect`

use bandsox_store::Store;
use serde_json::json;

use crate::failure::{Explain as _, Failure};
use crate::images;
use crate::output::Ui;

/// Show everything about an image, as JSON
///
/// `config` is what its VMs are given, `ignored` what no VM can be given, `used_by` the VMs that were
/// made from it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox image inspect ubuntu:24.04
  bandsox image inspect 3f85b7caad41")]
pub(crate) struct InspectImageArgs {
    /// Image, by name or digest
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(super) fn run(ui: &Ui, store: &Store, args: &InspectImageArgs) -> Result<(), Failure> {
    let InspectImageArgs { image } = args;
    let found = images::open(store)?
        .inspect(image, &std::env::current_dir()?)
        .hint("`bandsox image ls` shows all images")?;
    let others: Vec<&str> = found.also_known_as.iter().map(String::as_str).collect();
    let vms = images::users(store)(&found.base_path, &others);
    let mut shown = serde_json::to_value(found)?;
    if let Some(object) = shown.as_object_mut() {
        object.insert("used_by".to_owned(), json!(vms));
    }
    ui.json(&shown)
}
