//! Live migration between two QEMUs whose hosts exchange a [vmstream].
//!
//! ```text
//!  source QEMU ──socket──▶ send ══ contract, state ══▶ receive ──socket──▶ destination QEMU
//!                ◀──────── (QMP)  ◀═ verdict, answers ═         (QMP) ────────▶
//! ```
//!
//! On one connection, which need not be trusted more than the network that it goes through:
//!
//! 1. the sender writes a stream of purpose `contract`, with a note of what it wants;
//! 2. the receiver compares that with the contract of the QEMU that waits beside it, and writes an `answer`: its own contract
//!    and the verdict. If it refuses, that is all: the source was never told to migrate;
//! 3. the sender writes a stream of purpose `state`, made of what QEMU sends, as it comes;
//! 4. the receiver gives its QEMU the same bytes back, and writes an `answer` of what that QEMU says on its return path: requests
//!    for pages as `request`, all else as notes. It finishes when the guest is the destination's.
//!
//! The source lets go of its guest when the destination has said that it took all of it, and not before: whatever breaks
//! earlier leaves the source running. With postcopy the guest is in two places from the switch on.
#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each reader looks for the few events that are meant for it"
)]

mod address;
mod answers;
mod arrival;
mod door;
mod ending;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod job;
mod listener;
mod machine;
mod memory;
mod offer;
mod onlooker;
mod receive;
mod send;
mod watch;
mod wire;

pub use address::{Address, BadAddress};
pub use error::BridgeError;
pub use machine::{Machine, Progress};
pub use receive::{Receive, receive};
pub use send::{Send, Summary, send};

use vmstream::contract::Comparison;

/// What happens meanwhile.
#[derive(Debug)]
#[non_exhaustive]
pub enum News<'a> {
    /// The receiver waits there.
    Listening(&'a Address),
    /// Somebody connected who is no sender; it was sent away.
    Stranger(&'a BridgeError),
    /// What the comparison found, before anything moves.
    Verdict(&'a Comparison),
    /// How far it is.
    Progress(&'a Progress),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// Only the verdict was asked for; it says yes.
    WouldMove,
    /// The contracts differ: nothing was sent.
    Refused,
    /// The guest is the destination's.
    Moved(T),
}
