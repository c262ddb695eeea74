//! The client against peers that keep to the protocols, and against peers that do not.

#[path = "suite/control.rs"]
mod control;
#[path = "suite/exec.rs"]
mod exec;
#[path = "suite/hostile_files.rs"]
mod hostile_files;
#[path = "suite/peer.rs"]
mod peer;
#[path = "suite/v1.rs"]
mod v1;
