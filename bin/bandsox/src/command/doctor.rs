//! `bandsox doctor`

use std::path::Path;
use std::process::ExitCode;

use crate::doctor::{self, Finding, Verdict};
use crate::failure::Failure;
use crate::output::{Ui, printable};

/// Check what this machine can do and say how to repair what it cannot
///
/// Exits with 1 if VMs cannot run here.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox doctor
  bandsox doctor -o json")]
pub(crate) struct DoctorArgs {}

/// Makes every check and prints what it found.
pub(crate) fn run(ui: &Ui, storage: Option<&Path>, args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let DoctorArgs {} = args;
    let findings = doctor::examine(storage);
    if ui.is_json() {
        ui.json(&findings)?;
    } else {
        findings.iter().try_for_each(|finding| print(ui, finding))?;
    }
    let failed = findings.iter().filter(|finding| finding.status == Verdict::Fail).count();
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    ui.message(format!("{failed} of {} checks failed", findings.len()));
    Ok(ExitCode::FAILURE)
}

fn print(ui: &Ui, finding: &Finding) -> Result<(), Failure> {
    let verdict = match finding.status {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    ui.line(format!("{verdict:<5} {:<16} {}", finding.name, printable(&finding.finding)))?;
    match &finding.remedy {
        Some(remedy) => ui.line(format!("{:22} -> {remedy}", "")),
        None => Ok(()),
    }
}
