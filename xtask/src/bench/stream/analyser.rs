//! All sections and fields of a stream of QEMU's, by our program and by QEMU's script.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::captured::Captured;
use super::script;
use crate::bench::guest::seconds;
use crate::bench::report::{Bar, Report};
use crate::bench::statistics::median;
use crate::step::note;

const ROUNDS: usize = 7;

pub(super) fn run(tool: &Path, streams: &[&Captured], report: &mut Report) -> Result<()> {
    for captured in streams {
        let version = captured.version;
        let script = match script::of(version) {
            Ok(script) => Some(script),
            Err(error) => {
                note(&format!("    QEMU's script cannot be had: {error:#}"));
                None
            }
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (took, _) = time(Command::new(tool).arg("tree").arg(&captured.theirs))?;
            ours.push(took);
            let Some(script) = &script else { continue };
            let mut command = Command::new("python3");
            let (took, works) = time(command.arg(script).arg("-f").arg(&captured.theirs))?;
            theirs.extend(works.then_some(took));
        }
        let name = format!("QEMU {version}, tree");
        report.add(&name, median(&ours) * 1e3, "ms", Bar::None);
        if theirs.is_empty() {
            report.add(format!("{name}: the script is not there or fails"), 0.0, "", Bar::None);
            continue;
        }
        report.add(format!("QEMU {version}, its script"), median(&theirs) * 1e3, "ms", Bar::None);
        let ratio = median(&theirs) / median(&ours);
        report.add(format!("{name}: script ÷ ours"), ratio, "", Bar::AtLeast(20.0));
    }
    Ok(())
}

/// Seconds from start to end, and whether it succeeded.
fn time(command: &mut Command) -> Result<(f64, bool)> {
    let mut status = None;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let took = seconds(|| status = Some(command.status()));
    let status = status.context("it ran")??;
    Ok((took, status.success()))
}
