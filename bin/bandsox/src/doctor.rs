//! What this machine can do, what it cannot, and how to repair that.

mod host;
mod isolation;
mod storage;

use std::path::Path;

use serde::Serialize;

/// One check's result.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was checked.
    pub(crate) name: &'static str,
    /// How it is.
    pub(crate) status: Verdict,
    /// What was found.
    pub(crate) finding: String,
    /// What to do about it.
    pub(crate) remedy: Option<String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// VMs run, with less than there could be.
    Warn,
    /// VMs do not run.
    Fail,
}

impl Finding {
    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, status: Verdict::Ok, finding: finding.into(), remedy: None }
    }

    fn warn(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name, status: Verdict::Warn, finding: finding.into(), remedy }
    }

    fn fail(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name, status: Verdict::Fail, finding: finding.into(), remedy }
    }
}

/// Makes every check. None of them changes anything.
pub(crate) fn examine(storage: Option<&Path>) -> Vec<Finding> {
    let mut findings = storage::examine(storage);
    findings.extend(host::examine());
    findings.extend(isolation::examine());
    findings
}

/// An error and its causes on one line.
fn told(error: impl std::error::Error + Send + Sync + 'static) -> String {
    crate::failure::Failure::from(error).chain().join(": ")
}
