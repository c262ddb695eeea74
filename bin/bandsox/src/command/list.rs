//! `bandsox list`

use std::time::SystemTime;

use bandsox_spec::StopReason;
use bandsox_store::{Entry, LiveState, Metadata, Store, VsockConfig};
use comfy_table::Table;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Ui, ago, printable};

/// List all VMs
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox list
  bandsox ls -o json
  bandsox ps -q               # ids only")]
pub(crate) struct ListArgs {
    /// Only VMs that run or are paused
    #[arg(long)]
    running: bool,
}

/// What is listed of a VM.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: Option<String>,
    image: Option<String>,
    status: String,
    /// Why it does not run any more; null while it runs, and if it never did.
    status_reason: Option<StopReason>,
    /// The same in words, or what is wrong with a damaged one.
    status_text: Option<String>,
    cid: Option<u32>,
    port: Option<u32>,
    vcpu: Option<u32>,
    mem_mib: Option<u32>,
    /// Seconds since 1970.
    created_at: Option<u64>,
    path: Option<std::path::PathBuf>,
}

/// Prints all VMs.
pub(crate) fn run(ui: &Ui, store: &Store, args: &ListArgs) -> Result<(), Failure> {
    let ListArgs { running } = args;
    let rows: Vec<Row> = store
        .list()?
        .into_iter()
        .filter(|entry| !running || is_live(entry))
        .map(Row::from)
        .collect();
    if ui.is_json() {
        return ui.json(&rows);
    }
    if ui.is_quiet() {
        return rows.iter().try_for_each(|row| ui.line(printable(&row.id)));
    }
    if rows.is_empty() {
        return ui.line("No VMs found.");
    }
    ui.line(table(&rows))?;
    for row in rows.iter().filter(|row| row.status == DAMAGED) {
        let why = row.status_text.as_deref().unwrap_or_default();
        let path = row.path.as_deref().unwrap_or_else(|| "its metadata".as_ref());
        ui.warn(format!("{}: {why}; repair it, or remove the VM with `rm`", path.display()));
    }
    Ok(())
}

const DAMAGED: &str = "damaged";

fn is_live(entry: &Entry) -> bool {
    match entry {
        Entry::Vm(_, LiveState { live, .. }) => *live,
        Entry::Damaged(entry) => entry.live,
    }
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Vm(metadata, state) => Self::of(&metadata, &state),
            Entry::Damaged(entry) => Self {
                id: entry.id.map_or_else(
                    || entry.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                    |id| id.to_string(),
                ),
                name: None,
                image: None,
                status: DAMAGED.to_owned(),
                status_reason: None,
                status_text: Some(Failure::from(entry.error).chain().join(": ")),
                cid: None,
                port: None,
                vcpu: None,
                mem_mib: None,
                created_at: None,
                path: Some(entry.path),
            },
        }
    }
}

impl Row {
    fn of(metadata: &Metadata, state: &LiveState) -> Self {
        let (cid, port) = match metadata.vsock() {
            VsockConfig::Enabled { cid, port } if state.live => (cid, port),
            VsockConfig::Enabled { .. } | VsockConfig::Disabled | VsockConfig::Absent => {
                (None, None)
            }
        };
        let created = metadata.created_at();
        let since_1970 = created.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        Self {
            id: metadata.id().to_string(),
            name: metadata.name().map(ToOwned::to_owned),
            image: metadata.image().map(ToOwned::to_owned),
            status: state.phase.to_string(),
            status_reason: state.reason.clone(),
            status_text: state.reason.as_ref().map(ToString::to_string),
            cid,
            port,
            vcpu: metadata.vcpus().ok().map(|vcpus| vcpus.get()),
            mem_mib: metadata.mem_mib().ok().map(|mem| mem.get()),
            created_at: since_1970.map(|since| since.as_secs()),
            path: None,
        }
    }
}

impl Row {
    /// For the table: the status, and why it came to it.
    fn status_with_reason(&self) -> String {
        match &self.status_reason {
            Some(reason) => format!("{} ({})", self.status, reason.kind()),
            None => self.status.clone(),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let header = ["ID", "NAME", "IMAGE", "STATUS", "CID", "PORT", "VCPU", "MEM", "CREATED"];
    let mut table = output::table(header, &[4, 5, 6, 7]);
    for row in rows {
        let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let text = |value: &Option<String>| value.as_deref().map_or("-".into(), one_line);
        let mem = row.mem_mib.map_or_else(|| "-".to_owned(), |mib| format!("{mib} MiB"));
        let created = row.created_at.map_or_else(|| "-".to_owned(), ago);
        table.add_row([
            one_line(&row.id),
            text(&row.name),
            text(&row.image),
            row.status_with_reason(),
            number(row.cid),
            number(row.port),
            number(row.vcpu),
            mem,
            created,
        ]);
    }
    table
}

/// Metadata may come from anywhere: nothing in them breaks a line or moves the cursor.
fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}
