//! `bandsox image ls`

use bandsox_oci::Listed;
use bandsox_store::Store;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;
use crate::images;
use crate::output::{Ui, ago, human_bytes, printable};

/// List the images that are here
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
    let images = images::open(store)?;
    let in_use = store.bases_in_use()?;
    let rows = images.list()?.into_iter().map(|listed| {
        let users = in_use.users_of(&store.paths().images().join(&listed.record.base));
        Row { vms: users.iter().map(ToString::to_string).collect(), listed }
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
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["NAME", "DIGEST", "PLATFORM", "SIZE", "ON DISK", "VMS", "PULLED"]);
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
    for right in [3, 4, 5] {
        if let Some(column) = table.column_mut(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}
