//! `bandsox inspect`

use bandsox_store::Store;
use serde_json::{Map, Value, json};

use crate::failure::{Explain as _, Failure};
use crate::output::Ui;
use crate::storage;

/// Print everything known about a VM, as JSON
///
/// The output holds the VM's environment variables: treat it as a secret if they are.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox inspect web
  bandsox inspect web | jq .vsock_config.cid")]
pub(crate) struct InspectArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,
}

/// Prints the metadata as they are true now, and what the monitor says.
pub(crate) fn run(ui: &Ui, store: &Store, args: &InspectArgs) -> Result<(), Failure> {
    let InspectArgs { vm } = args;
    let id = storage::resolve(store, vm)?;
    let (metadata, state) = store.state(&id).context(format!("cannot inspect VM {id}"))?;
    let mut shown: Map<String, Value> = metadata.as_object().clone();
    shown.insert("status".to_owned(), json!(state.phase));
    // Without one there may be one of a later version's in the file.
    if state.reason.is_some() || state.live {
        shown.insert("status_reason".to_owned(), json!(state.reason));
    }
    shown.insert("status_text".to_owned(), json!(state.reason.as_ref().map(ToString::to_string)));
    if state.live
        && let Ok(mut monitor) = storage::monitor(store, &id)
        && let Ok(status) = monitor.status()
    {
        shown.insert("runtime".to_owned(), serde_json::to_value(status)?);
    }
    ui.json(&shown)
}
