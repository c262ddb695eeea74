//! The guest's PID 1: boots the root, runs commands, moves files.
//!
//! As PID 1 it never returns and takes no arguments; its orders are on the kernel's command line (see [`boot`]).
//! `bandsox-agent --listen-unix PATH [--protocols 1]` serves the same protocols from an ordinary process, for tests.

mod agent;
mod boot;
mod channel;
mod children;
mod console;
mod control;
mod serial;
mod server;
mod session;
mod shutdown;
mod signals;
mod standalone;
mod transfer;
mod v1;
mod vsock;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::run();
    }
    standalone::run(std::env::args_os().skip(1))
}
