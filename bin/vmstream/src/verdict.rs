//! What a comparison found, for people and for programs.

use std::io::{self, Write};

use serde_json::{Value as Json, json};
use vmstream::Finding;
use vmstream::contract::Comparison;
use vmstream::json::value_to_json;
use vmstream::message::Message as _;

use crate::output::printable;

/// One line for each thing to put right; all else if that is wanted.
pub(crate) fn print(
    comparison: &Comparison,
    verbose: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let told = |finding: &Finding| printable(&finding.to_string());
    for finding in &comparison.refusals {
        writeln!(out, "{}", told(finding))?;
    }
    if verbose {
        for finding in &comparison.consequences {
            writeln!(out, "  follows: {}", told(finding))?;
        }
        for finding in &comparison.remarks {
            writeln!(out, "harmless: {}", told(finding))?;
        }
    } else if !comparison.consequences.is_empty() {
        writeln!(out, "and {} that follow from it", comparison.consequences.len())?;
    }
    writeln!(out, "{}", if comparison.accepts() { "accepted" } else { "refused" })
}

/// All of it.
pub(crate) fn as_json(comparison: &Comparison) -> Json {
    let all = |findings: &[Finding]| {
        let each = findings.iter().map(|finding| value_to_json(&finding.to_value()));
        Json::Array(each.collect())
    };
    json!({
        "accepted": comparison.accepts(),
        "refusals": all(&comparison.refusals),
        "consequences": all(&comparison.consequences),
        "remarks": all(&comparison.remarks),
    })
}
