//! What a cleanup says that it did.

use std::fmt;
use std::path::PathBuf;

use bandsox_spec::{StopReason, VmId};
use serde::Serialize;

/// Whether anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What can be reclaimed is.
    Reclaim,
    /// It is only listed.
    DryRun,
}

/// What was reclaimed, or would be, and what was not.
#[derive(Debug, Default, Serialize)]
pub struct CleanupReport {
    /// Whether this is only what would be.
    pub dry_run: bool,
    /// What is no longer there.
    pub reclaimed: Vec<Reclaimed>,
    /// What looks as if it could go and may not.
    pub kept: Vec<Kept>,
    /// What should have gone and could not.
    pub failed: Vec<Failed>,
}

impl CleanupReport {
    /// How much room was freed. Unit: bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.reclaimed.iter().map(|item| item.bytes).fold(0, u64::saturating_add)
    }
}

/// Something that was reclaimed.
#[derive(Debug, Serialize)]
pub struct Reclaimed {
    /// What kind of thing.
    pub what: What,
    /// Whose it was, if that can be told.
    pub vm: Option<VmId>,
    /// Where it was; for a run, the metadata.
    pub path: PathBuf,
    /// Why it could go.
    pub why: Why,
    /// How much room it took. Unit: bytes.
    pub bytes: u64,
}

/// Something that was kept.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// The damaged metadata files that may refer to it.
    pub damaged: Vec<PathBuf>,
}

/// Something that could not be reclaimed.
#[derive(Debug, Serialize)]
pub struct Failed {
    /// Where it is.
    pub path: PathBuf,
    /// What the operating system said.
    pub error: String,
}

/// A kind of thing that can be reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// A run that nobody ended: its CID and port, and what the metadata said of it.
    Run,
    /// A writable disk.
    Disk,
    /// Sockets.
    Sockets,
    /// Logs.
    Logs,
    /// A lock file.
    Lock,
    /// What an interrupted write left.
    Temporary,
    /// What an interrupted removal left.
    Removal,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Run => "run",
            Self::Disk => "disk",
            Self::Sockets => "sockets",
            Self::Logs => "logs",
            Self::Lock => "lock",
            Self::Temporary => "temporary file",
            Self::Removal => "removed VM",
        })
    }
}

/// Why something could be reclaimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Why {
    /// Its VM was running and has no monitor any more.
    Ended(StopReason),
    /// Its VM does not run.
    NotRunning,
    /// There is no such VM.
    NoSuchVm,
    /// The command that was making its VM did not finish.
    CreationInterrupted,
    /// The command that was removing its VM did not finish.
    RemovalInterrupted,
    /// The command that was writing it did not finish.
    WriteInterrupted,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(reason) => reason.fmt(f),
            Self::NotRunning => f.write_str("its VM is not running"),
            Self::NoSuchVm => f.write_str("it belongs to no VM"),
            Self::CreationInterrupted => f.write_str("its VM was never finished"),
            Self::RemovalInterrupted => f.write_str("its VM was being removed"),
            Self::WriteInterrupted => f.write_str("its writing was interrupted"),
        }
    }
}
