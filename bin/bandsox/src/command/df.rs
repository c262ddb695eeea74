//! `bandsox df`

use std::collections::BTreeSet;
use std::path::Path;

use bandsox_oci::{Listed, Record};
use bandsox_store::{BasesInUse, Store, Usage, Used};
use comfy_table::Table;
use serde::Serialize;

use crate::failure::Failure;
use crate::images;
use crate::output::{self, Ui, human_bytes, printable};

/// Show what takes how much disk space
///
/// SIZE is what is taken on the disk: disks of VMs are as large as what was written to them.
/// Images are what VMs are made from, layers what images are made from.
/// RECLAIMABLE is what no VM needs; `bandsox image prune --all` frees images and layers of those.
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
    let in_use = store.bases_in_use()?;
    let listed = images::open(store).ok().and_then(|images| images.list().ok());
    let needed = listed.as_deref().map(|listed| needed_layers(store, &in_use, listed));
    let rows = rows(store.usage(&in_use)?, &in_use, needed);
    if ui.is_json() {
        return ui.json(&rows);
    }
    ui.line(summary(&rows))?;
    if ui.verbosity() == 0 {
        return Ok(());
    }
    for row in rows.iter().filter(|row| !row.items.is_empty()) {
        ui.line("")?;
        ui.line(details(row, listed.as_deref().unwrap_or_default()))?;
    }
    Ok(())
}

/// The names of the blobs of images that VMs use.
fn needed_layers(store: &Store, in_use: &BasesInUse, listed: &[Listed]) -> BTreeSet<String> {
    let records = listed.iter().map(|listed| &listed.record);
    let of_a_vm =
        |record: &&Record| !in_use.users_of(&store.paths().images().join(&record.base)).is_empty();
    let blobs = records.filter(of_a_vm).flat_map(Record::blobs);
    blobs.map(|digest| digest.hex().to_owned()).collect()
}

fn rows(usage: Usage, in_use: &BasesInUse, needed: Option<BTreeSet<String>>) -> Vec<Row> {
    let Usage { bases, blobs, disks, templates, logs, kernel } = usage;
    // Damaged metadata may need any image.
    let of_a_vm = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        needed.as_ref().is_none_or(|needed| needed.contains(name.as_ref()))
    };
    let idle =
        |used: &Used| in_use.damaged.is_empty() && used.vms.is_empty() && !of_a_vm(&used.path);
    [
        ("images", bases, true),
        ("layers", blobs, true),
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

fn sum<'a>(used: impl Iterator<Item = &'a Used>) -> u64 {
    used.map(|used| used.bytes).fold(0, u64::saturating_add)
}

fn summary(rows: &[Row]) -> Table {
    let mut table = output::table(["TYPE", "COUNT", "SIZE", "RECLAIMABLE"], &[1, 2, 3]);
    for row in rows {
        table.add_row([
            row.kind.to_owned(),
            row.count.to_string(),
            human_bytes(row.bytes),
            human_bytes(row.reclaimable_bytes),
        ]);
    }
    table
}

/// What a base is called: its names, if it has any, and the beginning of its digest.
fn shown_as(used: &Used, listed: &[Listed]) -> String {
    let file = used.path.file_name().unwrap_or_default().to_string_lossy();
    let records = listed.iter().map(|listed| &listed.record).filter(|it| it.base == file);
    let names: Vec<_> = records.map(|record| record.reference.as_str()).collect();
    match (names.as_slice(), file.get(..12)) {
        ([_, ..], Some(digest)) => printable(&format!("{} ({digest})", names.join(", "))),
        _ => printable(&file),
    }
}

fn details(row: &Row, listed: &[Listed]) -> Table {
    let kind = row.kind.to_uppercase();
    let mut table = output::table([&kind, "SIZE", "APPARENT", "VMS"], &[1, 2]);
    for used in &row.items {
        let vms: Vec<_> = used.vms.iter().map(ToString::to_string).collect();
        let vms = if vms.is_empty() { "-".to_owned() } else { vms.join(" ") };
        table.add_row([
            shown_as(used, listed),
            human_bytes(used.bytes),
            human_bytes(used.apparent_bytes),
            vms,
        ]);
    }
    table
}
