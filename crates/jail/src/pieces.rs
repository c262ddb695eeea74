//! What the jail is made of.

use serde::{Deserialize, Serialize};

/// A part of the jail. All are there; a test leaves one out to see that its absence is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Piece {
    /// A root file system of its own.
    Files,
    /// Taking that root away once the program has loaded.
    Seal,
    /// A network namespace of its own.
    Network,
    /// A pid namespace of its own.
    Processes,
    /// Another user, no capabilities, no new privileges.
    Privileges,
    /// Resource limits.
    Limits,
    /// A filter of system calls.
    SystemCalls,
}

impl Piece {
    /// Every piece.
    pub const ALL: [Self; 7] = [
        Self::Files,
        Self::Seal,
        Self::Network,
        Self::Processes,
        Self::Privileges,
        Self::Limits,
        Self::SystemCalls,
    ];
}
