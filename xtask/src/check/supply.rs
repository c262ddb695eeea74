//! `cargo deny`, where it is installed: licences, advisories, sources, twice the same crate.

use anyhow::Result;

use crate::setup::find;
use crate::step::note;
use crate::test::cargo;

pub(super) fn faults() -> Result<Vec<String>> {
    if find("cargo-deny").is_none() {
        note("    cargo-deny is not installed: deny.toml was not checked");
        return Ok(Vec::new());
    }
    // Advisories live in a repository that is not reachable from everywhere.
    let checked = cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"]).output()?;
    Ok(if checked.status.success() {
        Vec::new()
    } else {
        vec![String::from_utf8_lossy(&checked.stderr).into_owned()]
    })
}
