//! `cargo xtask bench [GROUP] [-o json]`: measurements, side by side in one run. Not tests: they print, and judge nothing
//! but themselves.
//!
//! What is compared takes turns (`a b a b …`) so that a machine that slows down slows both; what is printed is the
//! median. Each group says in its header what it measures, in what unit, and what it leaves out.

mod exec;
mod files;
mod guest;
mod images;
mod lifecycle;
mod memory;
mod report;
mod statistics;
mod vsock;

use anyhow::{Result, bail};
use bandsox_e2e::Bed;

use crate::setup::{self, Build, packages};
use report::{Format, Report};

type Group = fn(&Bed, &mut Report) -> Result<()>;

const GROUPS: [(&str, Group); 6] = [
    ("vsock", vsock::run),
    ("files", files::run),
    ("exec", exec::run),
    ("lifecycle", lifecycle::run),
    ("memory", memory::run),
    ("images", images::run),
];

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (group, format) = match *words {
        [] => (None, Format::Table),
        ["-o", "json"] => (None, Format::Json),
        ["-o", "table"] => (None, Format::Table),
        [group] | [group, "-o", "table"] => (Some(group), Format::Table),
        [group, "-o", "json"] | ["-o", "json", group] => (Some(group), Format::Json),
        _ => bail!("usage: cargo xtask bench [GROUP] [-o json]"),
    };
    let names = GROUPS.map(|(name, _)| name);
    if let Some(unknown) = group.filter(|group| !names.contains(group)) {
        bail!("no group {unknown}; there are {}", names.join(", "));
    }
    let bed = setup::ready(&packages::bench(), Build::Release)?;
    let mut report = Report::new(format);
    for (name, measure) in GROUPS {
        if group.is_none_or(|wanted| wanted == name) {
            report.group(name);
            crate::step::step(&format!("measuring {name}"), || measure(&bed, &mut report))?;
        }
    }
    report.finish();
    Ok(())
}
