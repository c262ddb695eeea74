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
mod stream;
mod vsock;

use anyhow::{Result, bail};
use bandsox_e2e::Bed;

use crate::setup::{self, Build, packages};
use crate::step::step;
use report::{Format, Report};

/// What a group measures.
#[derive(Clone, Copy)]
enum Group {
    /// Virtual machines of ours, on the test bed.
    Machines(fn(&Bed, &mut Report) -> Result<()>),
    /// Streams, for which neither the program nor its bed has to be made.
    Streams(fn(&mut Report) -> Result<()>),
}

const GROUPS: [(&str, Group); 9] = [
    ("vsock", Group::Machines(vsock::run)),
    ("files", Group::Machines(files::run)),
    ("exec", Group::Machines(exec::run)),
    ("lifecycle", Group::Machines(lifecycle::run)),
    ("memory", Group::Machines(memory::run)),
    ("images", Group::Machines(images::run)),
    ("stream/state", Group::Streams(stream::state)),
    ("stream/memory", Group::Streams(stream::memory)),
    ("stream/bridge", Group::Streams(stream::bridge)),
];

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (group, format) = match *words {
        [stream::READER, ref rest @ ..] => return stream::read_hostile(rest),
        [] => (None, Format::Table),
        ["-o", "json"] => (None, Format::Json),
        ["-o", "table"] => (None, Format::Table),
        [group] | [group, "-o", "table"] => (Some(group), Format::Table),
        [group, "-o", "json"] | ["-o", "json", group] => (Some(group), Format::Json),
        _ => bail!("usage: cargo xtask bench [GROUP] [-o json]"),
    };
    let names = GROUPS.map(|(name, _)| name);
    let chosen = |name: &str| group.is_none_or(|group| belongs(name, group));
    if let Some(unknown) = group.filter(|_| !names.into_iter().any(chosen)) {
        bail!("no group {unknown}; there are {}", names.join(", "));
    }
    let mut report = Report::new(format);
    let mut bed = None;
    for (name, measure) in GROUPS.into_iter().filter(|(name, _)| chosen(name)) {
        report.group(name);
        let what = format!("measuring {name}");
        match measure {
            Group::Machines(measure) => {
                let made = match bed.take() {
                    Some(bed) => bed,
                    None => setup::ready(&packages::bench(), Build::Release)?,
                };
                let bed = bed.insert(made);
                step(&what, || measure(bed, &mut report))?;
            }
            Group::Streams(measure) => {
                packages::ensure(packages::STREAMS)?;
                step(&what, || measure(&mut report))?;
            }
        }
    }
    report.finish();
    Ok(())
}

/// Whether a group is the one that is meant, or a part of it: `stream/memory` is of `stream`.
fn belongs(name: &str, group: &str) -> bool {
    name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
