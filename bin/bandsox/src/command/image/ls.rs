//! `bandsox image ls`

use bandsox_oci::Listed;
use bandsox_store::Store;
use comfy_table::Table;
use serde::Serialize;

use crate::failure::Failure;
use crate::images;
use crate::output::{self, Ui, ago, human_bytes, printable};

/// List the images that are here
///
/// SIZE is what its registry has, compressed; ON DISK what VMs are made from, once for all of them;
/// VMS how many were made under this name. `bandsox df` has the sums.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox image ls
  bandsox image ls -q         # names only
  bandsox image ls -o json")]
pub(crate) struct LsArgs {}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    listed: Listed,
    vms: Vec<String>,
}

pub(super) fn run(ui: &Ui, store: &Store, args: &LsArgs) -> Result<(), Failure> {
    let LsArgs {} = args;
    let here = images::open(store)?;
    let in_use = store.bases_in_use()?;
    let listed = here.list()?;
    let rows = listed.iter().map(|row| {
        let base = store.paths().images().join(&row.record.base);
        let users = in_use.users_but_of(&base, &images::other_names(&listed, &row.record));
        Row { vms: users.iter().map(ToString::to_string).collect(), listed: row.clone() }
    });
    let rows: Vec<Row> = rows.collect();
    if ui.is_json() {
        return ui.json(&rows);
    }
    if ui.is_quiet() {
        return rows.iter().try_for_each(|row| ui.line(printable(&row.listed.record.reference)));
    }
    if rows.is_empty() {
        return ui.line("No images found.");
    }
    ui.line(table(&rows))
}

fn table(rows: &[Row]) -> Table {
    let header = ["NAME", "DIGEST", "PLATFORM", "SIZE", "ON DISK", "VMS", "PULLED"];
    let mut table = output::table(header, &[3, 4, 5]);
    for Row { listed, vms } in rows {
        let record = &listed.record;
        let digest = record.manifest_digest.as_ref().map_or(record.base.as_str(), |it| it.hex());
        table.add_row([
            printable(&record.reference),
            digest.get(..12).unwrap_or_default().to_owned(),
            record.platform.to_string(),
            human_bytes(record.size),
            if listed.complete { human_bytes(listed.base_bytes) } else { "incomplete".to_owned() },
            vms.len().to_string(),
            ago(record.pulled_at),
        ]);
    }
    table
}
