//! Starts an engine with nothing that it does not need.
//!
//! ```text
//!  monitor ── control socket ── launcher (`bandsox __jail`) ── fork ── engine, process 1 of its
//!     │         orders, fds          │  own user (root) or            namespaces, empty root
//!     │         reports              │  user namespace (others)
//!     └── dies ─▶ socket closes ─▶ kills engine;   launcher dies ─▶ kernel kills engine
//! ```
//!
//! The engine is started in a file system that holds only what it is loaded from, and *sealed*
//! once it has loaded: from then on its root directory is empty. See `docs/threat-model.md`.
//!
//! Needs Linux 5.12 or later (`mount_setattr`).

mod cgroup;
mod child;
mod confine;
mod failure;
mod jail;
mod launcher;
mod libraries;
mod order;
mod packet;
mod pieces;
mod privileges;
mod probe;
mod process;
mod prove;
mod root;
mod sys;
mod syscalls;

pub use cgroup::sweep as sweep_cgroups;
pub use confine::{ConfineReport, MonitorNeeds, confine_monitor};
pub use jail::{Helper, Jail, NoJail};
pub use launcher::launcher_main;
pub use pieces::Piece;
pub use probe::{Attempt, Outcome, probe_main};
pub use prove::{Proof, ProveError, prove};
