//! Which process, beyond its number.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its process id.
    pub pid: u32,
    /// When it started. Unit: clock ticks since the host booted.
    #[serde(rename = "pid_start")]
    pub start: u64,
    /// The boot during which it started: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The calling process.
    ///
    /// # Errors
    ///
    /// If `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has `pid` now.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::of(pid)?;
        Ok(Self { pid, start: stat.start, boot_id: boot_id()? })
    }

    /// Whether that very process still runs. One that has ended but was not waited for does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|now| now == self.boot_id)
            && Stat::of(self.pid).is_ok_and(|stat| stat.start == self.start && !stat.has_ended())
    }

    /// A descriptor of that very process, or nothing if it is gone.
    ///
    /// # Errors
    ///
    /// Whatever `pidfd_open(2)` reports but that there is no such process.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // Looked at after the descriptor was opened: from here on the number cannot move.
            Ok(fd) => Ok(self.is_alive().then_some(fd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends that very process at once, if it is still there. Says whether it was.
    ///
    /// # Errors
    ///
    /// If it belongs to somebody else.
    pub fn kill(&self) -> io::Result<bool> {
        let Some(fd) = self.open()? else { return Ok(false) };
        match pidfd_send_signal(fd.as_fd(), Signal::KILL) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The identifier of the host's present boot.
///
/// # Errors
///
/// If `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What `/proc/<pid>/stat` says. Source: proc_pid_stat(5).
struct Stat {
    state: char,
    start: u64,
}

impl Stat {
    fn of(pid: u32) -> io::Result<Self> {
        let bytes = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Counts fields from the last parenthesis: the name before it may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 22, counted from 1; the state is field 3.
        let start = fields.nth(22 - 3 - 1)?.parse().ok()?;
        Some(Self { state, start })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_or_boot_is_not() {
        let us = ProcessIdentity::current().expect("/proc is mounted");

        assert!(us.is_alive());
        assert!(!ProcessIdentity { start: us.start + 1, ..us.clone() }.is_alive());
        assert!(!ProcessIdentity { boot_id: "another".to_owned(), ..us }.is_alive());
    }

    #[test]
    fn a_process_that_ended_but_was_not_waited_for_is_dead() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep runs");
        let identity = ProcessIdentity::of(child.id()).expect("it runs");
        assert!(identity.is_alive());

        assert!(identity.kill().expect("it is ours"));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while identity.is_alive() {
            assert!(std::time::Instant::now() < deadline, "a killed process lives on");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!identity.kill().expect("an answer"));

        child.wait().expect("it has ended");
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) (b c) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";

        assert_eq!(Stat::parse(line).map(|stat| (stat.state, stat.start)), Some(('S', 4242)));
    }
}
