//! What QEMU's events mean for the machine.

use bandsox_engine::{EngineEvent, ShutdownCause};
use serde_json::Value;

use bandsox_qmp::Event;

/// What the events so far have said.
#[derive(Debug, Default)]
pub(crate) struct History {
    booted: bool,
    panicked: bool,
    /// Why the machine goes down, once it does.
    pub(crate) cause: Option<ShutdownCause>,
}

impl History {
    /// Takes one event in; says what to report, if anything.
    pub(crate) fn take(&mut self, event: &Event) -> Option<EngineEvent> {
        match event.name.as_str() {
            "RESUME" if !self.booted => {
                self.booted = true;
                Some(EngineEvent::Booted)
            }
            "RESUME" => Some(EngineEvent::Resumed),
            "STOP" if self.cause.is_none() && self.booted => Some(EngineEvent::Paused),
            "GUEST_PANICKED" if !self.panicked => {
                self.panicked = true;
                Some(EngineEvent::Panicked)
            }
            "SHUTDOWN" if self.cause.is_none() => {
                let reason = event.data.get("reason").and_then(Value::as_str);
                let cause = self.cause_of(reason.unwrap_or(""));
                self.cause = Some(cause);
                Some(EngineEvent::Shutdown { cause })
            }
            _ => None,
        }
    }

    /// Source: QEMU 7.2, `qapi/run-state.json`, `ShutdownCause`.
    fn cause_of(&self, reason: &str) -> ShutdownCause {
        match reason {
            "guest-panic" => ShutdownCause::Panicked,
            "guest-reset" | "guest-shutdown" if self.panicked => ShutdownCause::Panicked,
            "guest-reset" => ShutdownCause::Rebooted,
            "guest-shutdown" => ShutdownCause::PoweredOff,
            "host-signal" => ShutdownCause::Signal,
            _ => ShutdownCause::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, data: Value) -> Event {
        Event { name: name.to_owned(), data }
    }

    #[test]
    fn the_first_resume_is_the_boot() {
        let mut history = History::default();

        let first = history.take(&event("RESUME", Value::Null));
        let second = history.take(&event("RESUME", Value::Null));

        assert_eq!(first, Some(EngineEvent::Booted));
        assert_eq!(second, Some(EngineEvent::Resumed));
    }

    #[test]
    fn a_reset_after_a_panic_is_a_panic() {
        let mut history = History::default();

        let panicked = history.take(&event("GUEST_PANICKED", json!({"action": "pause"})));
        let down = history.take(&event("SHUTDOWN", json!({"reason": "guest-reset"})));

        assert_eq!(panicked, Some(EngineEvent::Panicked));
        assert_eq!(down, Some(EngineEvent::Shutdown { cause: ShutdownCause::Panicked }));
    }

    #[test]
    fn each_way_down_has_its_cause() {
        for (reason, cause) in [
            ("guest-shutdown", ShutdownCause::PoweredOff),
            ("guest-reset", ShutdownCause::Rebooted),
            ("guest-panic", ShutdownCause::Panicked),
            ("host-qmp-quit", ShutdownCause::Host),
            ("host-signal", ShutdownCause::Signal),
        ] {
            let mut history = History::default();

            let down = history.take(&event("SHUTDOWN", json!({"reason": reason})));

            assert_eq!(down, Some(EngineEvent::Shutdown { cause }), "{reason}");
            assert_eq!(history.cause, Some(cause));
        }
    }
}
