//! What an engine tells its owner, unasked.

use std::fmt;

/// Something happened to the machine.
///
/// Sent on the channel that was given at start, in the order in which it happened.
/// [`EngineEvent::Exited`] is the last one, always.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineEvent {
    /// Virtual CPUs run for the first time.
    Booted,
    /// Virtual CPUs stand still, on request.
    Paused,
    /// Virtual CPUs run again.
    Resumed,
    /// The guest reported a panic of its kernel (pvpanic device). A [`EngineEvent::Shutdown`]
    /// follows when its command line says to reboot on panic.
    Panicked,
    /// The machine is going down; the process ends soon after.
    Shutdown {
        /// Who brought it down.
        cause: ShutdownCause,
    },
    /// The engine's process is gone.
    Exited(EngineExit),
}

/// Who or what ended a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownCause {
    /// The guest powered off.
    PoweredOff,
    /// The guest reset itself; machines are not restarted in place.
    Rebooted,
    /// The guest's kernel panicked and reset.
    Panicked,
    /// This side asked the engine to quit.
    Host,
    /// Somebody signalled the engine's process.
    Signal,
}

/// How an engine's process ended, with what is needed to say why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineExit {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Why the machine went down, if it did so before its process ended.
    pub cause: Option<ShutdownCause>,
    /// The last that the process wrote to its standard error, lossily decoded; at most
    /// a few KiB.
    pub stderr_tail: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
    /// It is gone, and whoever could have told how is gone too.
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "signal {number} ({name})"),
                None => write!(f, "signal {number}"),
            },
            Self::Unknown => f.write_str("an unknown end"),
        }
    }
}

/// The signals that end an engine in practice. Numbers are those of Linux on x86-64.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_named_when_it_is_known() {
        assert_eq!(ExitStatus::Signal(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(ExitStatus::Signal(42).to_string(), "signal 42");
        assert_eq!(ExitStatus::Code(1).to_string(), "exit code 1");
    }
}
