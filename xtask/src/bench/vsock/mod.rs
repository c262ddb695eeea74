//! Not measured yet.

use anyhow::Result;
use bandsox_e2e::Bed;

use super::report::Report;

#[expect(clippy::unnecessary_wraps, reason = "every group has this signature")]
pub(super) fn run(_bed: &Bed, _report: &mut Report) -> Result<()> {
    Ok(())
}
