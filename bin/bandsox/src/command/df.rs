//! `bandsox df`

use std::collections::BTreeSet;

use bandsox_oci::Digest;
use bandsox_store::{Store, Usage, Used};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;
use crate::images;
use crate::output::{Ui, human_bytes, printable};

/// Show what takes how much disk space
///
/// SIZE is what is taken on the disk: disks of VMs are as large as what was written to them.
/// RECLAIMABLE is what no VM needs, and of layers what no image has: `bandsox image prune --all`
/// frees it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox df
  bandsox df -v               # each image, each VM's disk
  bandsox df -o json")]
pub(crate) struct DfArgs {}

/// One kind of thing.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    count: usize,
    bytes: u64,
    reclaimable_bytes: u64,
    items: Vec<Used>,
}

/// Prints what takes how much.
pub(crate) fn run(ui: &Ui, store: &Store, args: &DfArgs) -> Result<(), Failure> {
    let DfArgs {} = args;
    let mut rows = rows(store.usage()?, store.bases_in_use()?.damaged.is_empty());
    rows.insert(1, blobs(store)?);
    if ui.is_json() {
        return ui.json(&rows);
    }
    ui.line(summary(&rows))?;
    if ui.verbosity() == 0 {
        return Ok(());
    }
    for row in rows.iter().filter(|row| !row.items.is_empty()) {
        ui.line("")?;
        ui.line(details(row))?;
    }
    Ok(())
}

fn rows(usage: Usage, all_readable: bool) -> Vec<Row> {
    let Usage { bases, disks, templates, logs, kernel } = usage;
    // Damaged metadata may need any image.
    let idle = |used: &Used| all_readable && used.vms.is_empty();
    [
        ("images", bases, true),
        ("disks", disks, false),
        ("templates", templates, false),
        ("logs", logs, false),
        ("kernel", kernel, false),
    ]
    .into_iter()
    .map(|(kind, items, can_go)| Row {
        kind,
        count: items.len(),
        bytes: sum(items.iter()),
        reclaimable_bytes: sum(items.iter().filter(|used| can_go && idle(used))),
        items,
    })
    .collect()
}

/// Layers, manifests and configs as registries have them. Those that no image has can go.
fn blobs(store: &Store) -> Result<Row, Failure> {
    let listed = images::open(store)?.list()?;
    let records = listed.iter().map(|listed| &listed.record);
    let digests = records.flat_map(|record| {
        record.layers.iter().chain(&record.manifest_digest).chain(&record.config_digest)
    });
    let kept: BTreeSet<&str> = digests.map(Digest::hex).collect();
    let items = store.blobs()?;
    let is_kept = |used: &Used| {
        let name = used.path.file_name().unwrap_or_default().to_string_lossy();
        kept.contains(&*name)
    };
    Ok(Row {
        kind: "layers",
        count: items.len(),
        bytes: sum(items.iter()),
        reclaimable_bytes: sum(items.iter().filter(|used| !is_kept(used))),
        items,
    })
}

fn sum<'a>(used: impl Iterator<Item = &'a Used>) -> u64 {
    used.map(|used| used.bytes).fold(0, u64::saturating_add)
}

fn summary(rows: &[Row]) -> Table {
    let mut table = plain(["TYPE", "COUNT", "SIZE", "RECLAIMABLE"]);
    for row in rows {
        table.add_row([
            row.kind.to_owned(),
            row.count.to_string(),
            human_bytes(row.bytes),
            human_bytes(row.reclaimable_bytes),
        ]);
    }
    align_right(&mut table, &[1, 2, 3]);
    table
}

fn details(row: &Row) -> Table {
    let mut table = plain([row.kind.to_uppercase().as_str(), "SIZE", "APPARENT", "VMS"]);
    for used in &row.items {
        let name = used.path.file_name().unwrap_or_default().to_string_lossy();
        let vms: Vec<_> = used.vms.iter().map(ToString::to_string).collect();
        let vms = if vms.is_empty() { "-".to_owned() } else { vms.join(" ") };
        table.add_row([
            printable(&name),
            human_bytes(used.bytes),
            human_bytes(used.apparent_bytes),
            vms,
        ]);
    }
    align_right(&mut table, &[1, 2]);
    table
}

fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

fn align_right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
