//! `bandsox cleanup`

use bandsox_store::{CleanupReport, Mode, Store};

use crate::failure::Failure;
use crate::output::{Ui, human_bytes};

/// Reclaim what dead VMs and interrupted commands left behind
///
/// Never touches a VM that runs, nor anything that a damaged metadata file might refer to.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox cleanup --dry-run
  bandsox cleanup")]
pub(crate) struct CleanupArgs {
    /// Say what would be done, and do nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Cleans up and prints what went.
pub(crate) fn run(ui: &Ui, store: &Store, args: &CleanupArgs) -> Result<(), Failure> {
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Reclaim };
    let report = store.cleanup(mode)?;
    if ui.is_json() {
        ui.json(&report)?;
    } else {
        print(ui, &report)?;
    }
    if report.failed.is_empty() { Ok(()) } else { Err(Failure::silent(crate::failure::FAILED)) }
}

fn print(ui: &Ui, report: &CleanupReport) -> Result<(), Failure> {
    let verb = if report.dry_run { "would reclaim" } else { "reclaimed" };
    for item in &report.reclaimed {
        ui.line(format!("{verb} {}: {} ({})", item.what, item.path.display(), item.why))?;
    }
    for kept in &report.kept {
        let damaged: Vec<_> = kept.damaged.iter().map(|path| path.display().to_string()).collect();
        ui.warn(format!(
            "kept {}: damaged metadata may refer to it ({})",
            kept.path.display(),
            damaged.join(", ")
        ));
    }
    for failed in &report.failed {
        ui.warn(format!("could not remove {}: {}", failed.path.display(), failed.error));
    }
    if report.reclaimed.is_empty() {
        ui.message("Nothing to clean up.");
    } else if report.bytes() > 0 {
        ui.message(format!("{} in all", human_bytes(report.bytes())));
    }
    Ok(())
}
