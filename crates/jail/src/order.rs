//! What the monitor's process and the launcher say to each other.
//!
//! The launcher is the same program in the same version, so the form needs no negotiation.

use std::ffi::OsString;

use bandsox_engine::{ExitStatus, Limits};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::pieces::Piece;

/// The first packet, monitor to launcher. With it come descriptors, in this order: standard
/// error, then one per entry of `numbers`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) confinement: Confinement,
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    /// Files and folders to be seen, read-only, while loading.
    pub(crate) load_paths: Vec<OsString>,
    /// Device nodes to be seen while loading.
    pub(crate) devices: Vec<OsString>,
    pub(crate) limits: WireLimits,
    /// Under which number the program finds each of its descriptors.
    pub(crate) numbers: Vec<i32>,
    /// Pieces of the jail to leave out.
    pub(crate) without: Vec<Piece>,
}

impl Order {
    /// Whether `piece` is wanted.
    pub(crate) fn has(&self, piece: Piece) -> bool {
        !self.without.contains(&piece)
    }
}

/// How much of a jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Confinement {
    /// None: the process is only tied to the monitor's life.
    None,
    /// A jail made by root, for another user.
    OtherUser { uid: u32 },
    /// A jail in a user namespace that holds the caller alone.
    SameUser { uid: u32, gid: u32 },
}

/// [`Limits`] on the wire.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct WireLimits {
    pub(crate) open_files: u64,
    pub(crate) tasks: u64,
    pub(crate) file_size: u64,
}

impl From<&Limits> for WireLimits {
    fn from(limits: &Limits) -> Self {
        // The memory limit is the cgroup's, which the monitor's process makes.
        let Limits { open_files, tasks, file_size, memory: _ } = *limits;
        Self { open_files, tasks, file_size }
    }
}

/// Later packets, monitor to launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Take the root away.
    Seal,
}

/// Packets from the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The program was executed.
    Started { pid: u32 },
    /// It could not be; the launcher ends.
    Failed(Failure),
    /// Its root is gone.
    Sealed { applied: Vec<String>, missing: Vec<String> },
    /// Its root could not be taken away.
    SealFailed(Failure),
    /// It ended; the launcher ends.
    Exited(Ended),
}

/// [`ExitStatus`] on the wire.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
    Unknown,
}

impl From<Ended> for ExitStatus {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Code(code) => Self::Code(code),
            Ended::Signal(signal) => Self::Signal(signal),
            Ended::Unknown => Self::Unknown,
        }
    }
}
