//! What the program reads and holds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::captured::Captured;
use super::memory::Files;
use crate::bench::report::{Bar, Report};

const LARGEST: Bar = Bar::AtMost(64.0);

pub(super) fn run(
    tool: &Path,
    files: &Files,
    captured: &Captured,
    report: &mut Report,
) -> Result<()> {
    let bytes = bytes_read(tool, &files.huge)?;
    let name = "get of one field of 4 GiB: read";
    report.add(name, bytes / 1024.0, "KiB", Bar::AtMost(1023.0));
    let page = files.huge.with_extension("html").display().to_string();
    let of = |file: &Path| file.display().to_string();
    let (pages, mappable) = (of(&files.sequential), of(&files.mappable));
    for command in ["tree", "inspect", "verify"] {
        let peak = peak(tool, &[command, &pages])?.max(peak(tool, &[command, &mappable])?);
        report.add(format!("{command} of 1 GiB: peak"), peak, "MiB", LARGEST);
        let peak = self::peak(tool, &[command, &of(&captured.theirs)])?;
        report.add(format!("{command} of QEMU's 256 MiB: peak"), peak, "MiB", LARGEST);
    }
    let peak_of = |words: &[&str]| peak(tool, words);
    report.add("diff of 1 GiB: peak", peak_of(&["diff", &pages, &mappable])?, "MiB", LARGEST);
    let words = ["report", &pages, &mappable, "-o", &page];
    report.add("report of 1 GiB: peak", peak_of(&words)?, "MiB", LARGEST);
    let theirs = of(&captured.theirs);
    let both = ["diff", &theirs, &theirs];
    report.add("diff of QEMU's 256 MiB: peak", peak_of(&both)?, "MiB", LARGEST);
    let words = ["report", &theirs, &theirs, "-o", &page];
    report.add("report of QEMU's 256 MiB: peak", peak_of(&words)?, "MiB", LARGEST);
    Ok(())
}

/// MiB that a command held at once, as the kernel counts them when it ends.
fn peak(tool: &Path, words: &[&str]) -> Result<f64> {
    let mut command = Command::new("/usr/bin/time");
    command.args(["-f", "%M"]).arg(tool).args(words).stdin(Stdio::null()).stdout(Stdio::null());
    let out = command.output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "vmstream {}: {told}", words.join(" "));
    let kib = told.lines().next_back().unwrap_or_default();
    Ok(kib.parse::<f64>().with_context(|| format!("a number, not {kib:?}"))? / 1024.0)
}

/// Bytes that `get` read from anywhere, its own program included.
fn bytes_read(tool: &Path, file: &Path) -> Result<f64> {
    let log = file.with_extension("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=read,readv,pread64,preadv,preadv2", "-o"]).arg(&log);
    let out = command.arg(tool).arg("get").arg(file).arg("cpu.env.eip").output()?;
    ensure!(out.status.success(), "get: {}", String::from_utf8_lossy(&out.stderr));
    let log = fs::read_to_string(log)?;
    let result = |line: &str| line.rsplit_once(" = ")?.1.parse::<u64>().ok();
    Ok(log.lines().filter_map(result).sum::<u64>() as f64)
}
