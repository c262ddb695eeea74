//! The agent as a process, spoken to over a unix socket: every protocol, without a VM.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test wants one answer and panics at any other"
)]

mod exec;
mod files;
mod guest;
mod hostile;
mod sessions;
mod v1;
