//! QEMU as an engine: command line, QMP, vhost-user front of the vsock device.
//!
//! ```text
//!   QemuInstall::find ─▶ launch(MachineSpec, Launcher) ─▶ Starting ─▶ connect ─▶ QemuEngine
//!                        spawns the process,              QMP handshake, seal,
//!                        no thread yet                    one watching thread
//! ```
//!
//! Starting has two steps so that the caller can give up its own privileges between them: what
//! restricts a thread is inherited by the threads that it makes, and by no others.
//!
//! Works with QEMU 7.2 and later.

mod arguments;
mod commander;
mod cpu;
mod engine;
mod install;
mod interpret;
mod start;
pub mod vhost_user;
mod watch;

pub use arguments::{Wiring, arguments};
pub use cpu::cpu_model;
pub use engine::QemuEngine;
pub use install::{InstallError, QemuInstall};
pub use start::{StartError, Starting, launch};
