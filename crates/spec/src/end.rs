//! Why a VM is no longer running.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::phase::Event;

/// Why a VM is no longer running; `status_reason` in its metadata.
///
/// `Display` is a sentence for people, without a full stop; the serialised form is for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody asked for it with `stop`, `restart` or `rm -f`.
    Requested,
    /// The guest did not power off in time, and was ended.
    Forced,
    /// The guest powered off by itself.
    PoweredOff,
    /// The guest rebooted by itself, which ends it here.
    Rebooted,
    /// The guest's kernel panicked.
    Panicked,
    /// The guest never answered after the start.
    NotReady,
    /// The start did not get as far as a guest: no kernel, no CID, a changed base image.
    StartFailed {
        /// Why, as whoever asked was told; at most [`EngineExit::MAX_DETAIL_BYTES`] bytes.
        #[serde(default)]
        detail: String,
    },
    /// The engine's process ended on its own.
    EngineDied {
        /// How the process ended, if it could be learnt.
        #[serde(flatten)]
        exit: EngineExit,
        /// The last lines that it printed, at most [`EngineExit::MAX_DETAIL_BYTES`] bytes.
        #[serde(default)]
        detail: String,
    },
    /// The monitor's process is gone, and the machine with it.
    MonitorDied,
    /// The host was rebooted, or lost power, while the VM ran.
    HostRebooted,
}

impl StopReason {
    /// What this was for the VM's life: an orderly end, or not.
    #[must_use]
    pub const fn event(&self) -> Event {
        match self {
            Self::Requested
            | Self::Forced
            | Self::PoweredOff
            | Self::Rebooted
            | Self::StartFailed { .. }
            | Self::HostRebooted => Event::Ended,
            Self::Panicked | Self::NotReady | Self::EngineDied { .. } | Self::MonitorDied => {
                Event::Died
            }
        }
    }
}

impl StopReason {
    /// Its `kind` in the serialised form.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Forced => "forced",
            Self::PoweredOff => "powered_off",
            Self::Rebooted => "rebooted",
            Self::Panicked => "panicked",
            Self::NotReady => "not_ready",
            Self::StartFailed { .. } => "start_failed",
            Self::EngineDied { .. } => "engine_died",
            Self::MonitorDied => "monitor_died",
            Self::HostRebooted => "host_rebooted",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("stopped on request"),
            Self::Forced => f.write_str("did not power off in time and was ended"),
            Self::PoweredOff => f.write_str("the guest powered off"),
            Self::Rebooted => f.write_str("the guest rebooted, which ends the VM"),
            Self::Panicked => f.write_str("the guest's kernel panicked"),
            Self::NotReady => f.write_str("the guest did not answer after the start"),
            Self::StartFailed { detail } => {
                f.write_str("the last start failed")?;
                last_line(f, detail)
            }
            Self::EngineDied { exit, detail } => {
                write!(f, "the engine {exit}")?;
                last_line(f, detail)
            }
            Self::MonitorDied => f.write_str("its monitor died"),
            Self::HostRebooted => f.write_str("the host rebooted while it ran"),
        }
    }
}

/// Adds the last line that says something. It may come from anywhere: nothing in it breaks the line
/// or moves the cursor.
fn last_line(f: &mut fmt::Formatter<'_>, detail: &str) -> fmt::Result {
    let Some(last) = detail.lines().rfind(|line| !line.trim().is_empty()) else { return Ok(()) };
    f.write_str(": ")?;
    last.trim().chars().try_for_each(|c| {
        if c.is_control() { write!(f, "{}", c.escape_debug()) } else { write!(f, "{c}") }
    })
}

/// How an engine's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "exit", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EngineExit {
    /// It exited.
    Code {
        /// Its exit status, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// Nobody saw it end.
    Unknown,
}

impl EngineExit {
    /// How much of an engine's last words is worth keeping, in bytes.
    pub const MAX_DETAIL_BYTES: usize = 4096;
}

impl fmt::Display for EngineExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code } => write!(f, "exited with status {code}"),
            Self::Signal { signal } => write!(f, "was ended by signal {signal}"),
            Self::Unknown => f.write_str("is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::Phase;

    #[test]
    fn every_reason_survives_being_written_down() {
        let reasons = [
            StopReason::Requested,
            StopReason::Forced,
            StopReason::PoweredOff,
            StopReason::Rebooted,
            StopReason::Panicked,
            StopReason::NotReady,
            StopReason::StartFailed { detail: "no kernel".to_owned() },
            StopReason::EngineDied {
                exit: EngineExit::Signal { signal: 9 },
                detail: "qemu: out of memory\n".to_owned(),
            },
            StopReason::EngineDied { exit: EngineExit::Code { code: 1 }, detail: String::new() },
            StopReason::EngineDied { exit: EngineExit::Unknown, detail: String::new() },
            StopReason::MonitorDied,
            StopReason::HostRebooted,
        ];
        for reason in reasons {
            let text = serde_json::to_string(&reason).expect("plain data");
            let kind = format!("\"kind\":\"{}\"", reason.kind());
            assert!(text.contains(&kind), "{text}");
            assert_eq!(serde_json::from_str::<StopReason>(&text).ok(), Some(reason), "{text}");
        }
    }

    #[test]
    fn an_engines_end_is_told_with_its_last_line_and_no_control_characters() {
        let reason = StopReason::EngineDied {
            exit: EngineExit::Code { code: 1 },
            detail: "warning\nqemu: \u{1b}[31mno memory\n\n".to_owned(),
        };

        assert_eq!(
            reason.to_string(),
            "the engine exited with status 1: qemu: \\u{1b}[31mno memory"
        );
    }

    #[test]
    fn a_power_off_is_an_orderly_end_and_a_lost_monitor_is_not() {
        assert_eq!(Phase::Running.on(StopReason::PoweredOff.event()), Phase::Stopped);
        assert_eq!(Phase::Running.on(StopReason::MonitorDied.event()), Phase::Crashed);
    }
}
