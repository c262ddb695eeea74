//! `cargo xtask check`: what no compiler checks.

mod changelog;
mod layers;
mod links;
mod sizes;
mod sources;
mod supply;
mod todos;
mod unlisted;
mod unsafe_list;

use anyhow::{Result, ensure};

use crate::step::note;
use sources::Sources;

/// Runs every check, prints every fault, fails when there is one.
pub(crate) fn run() -> Result<()> {
    let sources = Sources::read()?;
    let checks: [(&str, Result<Vec<String>>); 7] = [
        ("layers", layers::faults()),
        ("forgotten tests", Ok(unlisted::faults(&sources))),
        ("unsafe", unsafe_list::faults(&sources)),
        ("todo", Ok(todos::faults(&sources))),
        ("changelog", changelog::faults()),
        ("links", links::faults()),
        ("cargo deny", supply::faults()),
    ];
    let mut count = 0_usize;
    for (name, faults) in checks {
        for fault in faults? {
            note(&format!("    {name}: {fault}"));
            count += 1;
        }
    }
    for line in sizes::report(&sources) {
        note(&format!("    size: {line}"));
    }
    ensure!(count == 0, "{count} to mend");
    Ok(())
}
