//! Driving a running machine.

use std::os::fd::OwnedFd;
use std::time::Duration;

/// A running machine, whatever runs it.
///
/// Every call returns within a bounded time. What happens by itself (the guest powers off, the
/// process dies) arrives as [`EngineEvent`](crate::EngineEvent)s.
pub trait Engine: Send {
    /// What runs the guest, for status and logs.
    fn info(&self) -> &EngineInfo;

    /// Starts the virtual CPUs for the first time.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    fn boot(&mut self) -> Result<(), CommandError>;

    /// Stops the virtual CPUs; returns once they stand still.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    fn pause(&mut self) -> Result<(), CommandError>;

    /// Lets paused virtual CPUs run on.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    fn resume(&mut self) -> Result<(), CommandError>;

    /// Whether the virtual CPUs run.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    fn is_running(&mut self) -> Result<bool, CommandError>;

    /// Presses the machine's power button. A guest may ignore it.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    fn press_power_button(&mut self) -> Result<(), CommandError>;

    /// Ends the engine's process in an orderly way: disks are flushed, the guest is not asked.
    ///
    /// # Errors
    ///
    /// See [`CommandError`]. An engine that is already gone is not an error.
    fn quit(&mut self) -> Result<(), CommandError>;

    /// Ends the engine's process at once. Never fails and never waits.
    fn kill(&mut self);

    /// Plugs a vsock device into the machine's free place for it.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    fn plug_vsock(&mut self, plug: VsockPlug) -> Result<(), CommandError>;

    /// Unplugs the vsock device; returns once the guest has let go of it. The guest must be
    /// running: one that is stopped never answers.
    ///
    /// # Errors
    ///
    /// [`CommandError::NoAnswer`] when the guest does not let go within `timeout`.
    fn unplug_vsock(&mut self, timeout: Duration) -> Result<(), CommandError>;
}

/// What runs a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Engine's name as `--engine` spells it.
    pub engine: &'static str,
    /// How it executes guest code: `tcg` or `kvm`.
    pub accelerator: &'static str,
    /// Version of the program, for example `7.2.22`.
    pub version: String,
    /// Process id on this host.
    pub pid: u32,
}

/// A vsock device to be plugged.
#[derive(Debug)]
pub struct VsockPlug {
    /// The front-end's end of a vhost-user socket pair, the back-end already listening.
    pub socket: OwnedFd,
}

/// Why an engine did not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The process is gone, or its control connection is.
    #[error("the engine is gone; it cannot {command}")]
    Gone {
        /// What was asked of it.
        command: &'static str,
    },
    /// It understood and said no.
    #[error("the engine refused to {command}: {class}: {description}")]
    Refused {
        /// What was asked of it.
        command: &'static str,
        /// Its own class of error.
        class: String,
        /// Its own words.
        description: String,
    },
    /// Nothing came back in time.
    #[error("no answer to {command} within {waited:?}")]
    NoAnswer {
        /// What was asked of it.
        command: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Its control connection broke, or spoke nonsense.
    #[error("the control connection failed during {command}")]
    Connection {
        /// What was asked of it.
        command: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
}
