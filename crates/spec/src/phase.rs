//! Where a VM is in its life.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a VM is in its life.
///
/// ```text
///   Created | Stopped | Crashed --Start--> Starting --Ready--> Running <--Pause/Resume--> Paused
///   Starting | Running | Paused --Stop, Kill--> Stopping
///   Starting | Running | Paused | Stopping --Ended--> Stopped
///                                          --Died---> Crashed
///   Damaged: its metadata cannot be read, so that nothing about it is known
/// ```
///
/// Pure: no clock, no process, no file. Whoever acts asks [`Phase::after`] first, so that a refused
/// command changes nothing. What happens by itself is an [`Event`] and is never refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has never run.
    Created,
    /// A monitor has it; the guest has not answered yet.
    Starting,
    /// The guest runs and has answered.
    Running,
    /// The guest's CPUs are held.
    Paused,
    /// It was asked to end and has not yet.
    Stopping,
    /// It ended as somebody wanted, in the guest or outside.
    Stopped,
    /// It ended as nobody wanted.
    Crashed,
    /// Its metadata cannot be read. Never written to a file.
    Damaged,
}

/// What someone asks of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Boot it.
    Start,
    /// Hold its CPUs.
    Pause,
    /// Let its CPUs go on.
    Resume,
    /// Have the guest power off; end it if it does not.
    Stop,
    /// End it at once.
    Kill,
    /// Run a command in it, or move a file in or out.
    Use,
    /// Delete it and what it wrote.
    Remove,
}

/// What happens to a VM whether or not anyone asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The guest's agent answered for the first time since the start.
    Ready,
    /// The machine ended in an orderly way: asked to, powered off or rebooted.
    Ended,
    /// The machine, its engine or its monitor is gone without an orderly end.
    Died,
}

impl Phase {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Stopped,
        Self::Crashed,
        Self::Damaged,
    ];

    /// The phase that `command` leads to from here. [`Command::Use`] and [`Command::Remove`] stay
    /// where they are: the first changes nothing, after the second there is no VM to be anywhere.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the command makes no sense here.
    pub fn after(self, command: Command) -> Result<Self, Refused> {
        use Command::{Kill, Pause, Remove, Resume, Start, Stop, Use};
        match (self, command) {
            (Self::Created | Self::Stopped | Self::Crashed, Start) => Ok(Self::Starting),
            (Self::Running, Pause) => Ok(Self::Paused),
            (Self::Paused, Resume) => Ok(Self::Running),
            (Self::Starting | Self::Running | Self::Paused | Self::Stopping, Stop | Kill) => {
                Ok(Self::Stopping)
            }
            (Self::Running, Use) => Ok(Self::Running),
            (Self::Created | Self::Stopped | Self::Crashed | Self::Damaged, Remove) => Ok(self),

            (Self::Created | Self::Stopped | Self::Crashed, Pause | Resume | Stop | Kill | Use)
            | (Self::Starting, Start | Pause | Resume | Use | Remove)
            | (Self::Running, Start | Resume | Remove)
            | (Self::Paused, Start | Pause | Use | Remove)
            | (Self::Stopping, Start | Pause | Resume | Use | Remove)
            | (Self::Damaged, Start | Pause | Resume | Stop | Kill | Use) => {
                Err(Refused { command, phase: self })
            }
        }
    }

    /// The phase that `event` leaves a VM in. Late or repeated events change nothing.
    #[must_use]
    pub const fn on(self, event: Event) -> Self {
        match (self, event) {
            (Self::Starting, Event::Ready) => Self::Running,
            (Self::Starting | Self::Running | Self::Paused | Self::Stopping, Event::Ended) => {
                Self::Stopped
            }
            (Self::Starting | Self::Running | Self::Paused | Self::Stopping, Event::Died) => {
                Self::Crashed
            }
            (Self::Running | Self::Paused | Self::Stopping, Event::Ready)
            | (
                Self::Created | Self::Stopped | Self::Crashed | Self::Damaged,
                Event::Ready | Event::Ended | Event::Died,
            ) => self,
        }
    }

    /// Whether a VM in this phase has a monitor, if what was written down is still true.
    #[must_use]
    pub const fn has_monitor(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Paused | Self::Stopping => true,
            Self::Created | Self::Stopped | Self::Crashed | Self::Damaged => false,
        }
    }

    /// The phase as `status` in the metadata spells it. Spellings never change.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Damaged => "damaged",
        }
    }
}

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase { found: text.chars().take(40).collect() })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Use => "use",
            Self::Remove => "remove",
        })
    }
}

/// A command that made no sense in the phase it met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {command} a VM that is {phase}")]
pub struct Refused {
    /// What was asked.
    pub command: Command,
    /// Where the VM was, and still is.
    pub phase: Phase,
}

/// A `status` that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown status {found:?}")]
pub struct UnknownPhase {
    /// What it says; cut off when long.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMANDS: [Command; 7] = [
        Command::Start,
        Command::Pause,
        Command::Resume,
        Command::Stop,
        Command::Kill,
        Command::Use,
        Command::Remove,
    ];

    fn command() -> impl Strategy<Value = Command> {
        proptest::sample::select(COMMANDS.to_vec())
    }

    fn event() -> impl Strategy<Value = Event> {
        proptest::sample::select(vec![Event::Ready, Event::Ended, Event::Died])
    }

    fn phase() -> impl Strategy<Value = Phase> {
        proptest::sample::select(Phase::ALL.to_vec())
    }

    /// One step of a life: somebody asks, or something happens.
    fn step() -> impl Strategy<Value = Result<Command, Event>> {
        prop_oneof![command().prop_map(Ok), event().prop_map(Err)]
    }

    proptest! {
        #[test]
        fn a_refusal_names_what_was_asked_and_where_the_vm_is(p in phase(), c in command()) {
            if let Err(refused) = p.after(c) {
                prop_assert_eq!(refused, Refused { command: c, phase: p });
            }
        }

        #[test]
        fn every_monitored_phase_can_be_ended_and_removed_afterwards(p in phase(), e in event()) {
            prop_assume!(p.has_monitor() && e != Event::Ready);
            prop_assert!(p.after(Command::Kill).is_ok());
            prop_assert!(p.after(Command::Remove).is_err());
            prop_assert!(p.on(e).after(Command::Remove).is_ok());
            prop_assert!(p.on(e).after(Command::Start).is_ok());
        }

        #[test]
        fn only_a_start_gives_a_vm_a_monitor(p in phase(), s in step()) {
            let next = match s {
                Ok(command) => p.after(command).unwrap_or(p),
                Err(event) => p.on(event),
            };
            if !p.has_monitor() && next.has_monitor() {
                prop_assert_eq!(s, Ok(Command::Start));
            }
        }

        #[test]
        fn only_an_event_takes_the_monitor_away(p in phase(), c in command()) {
            prop_assume!(p.has_monitor());
            prop_assert!(p.after(c).unwrap_or(p).has_monitor());
        }

        #[test]
        fn no_life_reaches_damaged_by_itself(steps in proptest::collection::vec(step(), 0..40)) {
            let mut at = Phase::Created;
            for step in steps {
                at = match step {
                    Ok(command) => at.after(command).unwrap_or(at),
                    Err(event) => at.on(event),
                };
                prop_assert_ne!(at, Phase::Damaged);
            }
        }

        #[test]
        fn a_repeated_event_changes_nothing(p in phase(), e in event()) {
            prop_assert_eq!(p.on(e).on(e), p.on(e));
        }
    }

    #[test]
    fn the_spelling_of_each_phase_is_fixed() {
        let spelled: Vec<_> = Phase::ALL.iter().map(|phase| phase.as_str()).collect();

        assert_eq!(
            spelled,
            [
                "created", "starting", "running", "paused", "stopping", "stopped", "crashed",
                "damaged"
            ]
        );
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().parse(), Ok(phase));
            assert_eq!(serde_json::to_value(phase).ok(), Some(phase.as_str().into()));
        }
    }

    #[test]
    fn starting_a_running_vm_is_refused_in_words() {
        let refusal = Phase::Running.after(Command::Start).expect_err("it runs already");

        assert_eq!(refusal.to_string(), "cannot start a VM that is running");
    }

    #[test]
    fn a_paused_vm_resumes_stops_and_is_not_used() {
        assert_eq!(Phase::Paused.after(Command::Resume), Ok(Phase::Running));
        assert_eq!(Phase::Paused.after(Command::Stop), Ok(Phase::Stopping));
        assert!(Phase::Paused.after(Command::Use).is_err());
    }
}
