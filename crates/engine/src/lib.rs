//! What every engine shares: the machine's description, guest RAM, events, and how an engine's
//! process is started.
//!
//! An *engine* runs one guest. This crate holds the traits that the monitor drives
//! ([`Engine`]) and that a jail implements ([`Launcher`], [`Process`]), plus the data they
//! exchange. It knows neither QEMU nor KVM's machine model.
//!
//! ```text
//!   MachineSpec ──▶ engine crate builds a LaunchSpec ──▶ Launcher ──▶ Process
//!                                                                        │
//!   monitor ◀── EngineEvent (mpsc) ◀── engine's threads ◀── control fd ──┘
//! ```
//!
//! Everything that an engine touches is handed in as an open descriptor, so that its process
//! needs no path but those of the files it is loaded from.

mod control;
mod event;
mod kvm;
mod launch;
mod machine;
mod ram;
mod select;

pub use control::{CommandError, Engine, EngineInfo, VsockPlug};
pub use event::{EngineEvent, EngineExit, ExitStatus, ShutdownCause};
pub use kvm::{KvmReason, KvmReport, probe_kvm};
pub use launch::{
    InheritedFd, KillSwitch, LaunchError, LaunchSpec, Launcher, Limits, Process, SealError,
    SealReport,
};
pub use machine::{Disk, MachineSpec, SerialLink};
pub use ram::{GuestRam, GuestRamError};
pub use select::{Accelerator, EngineUnavailable, select};
