//! The monitor's side of a launched process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bandsox_engine::{ExitStatus, KillSwitch, LaunchError, Process, SealError, SealReport};
use rustix::event::{PollFd, PollFlags, poll};

use crate::cgroup::Cgroups;
use crate::order::{Report, Request};
use crate::packet;

/// How long the launcher may take for what takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process behind a launcher.
pub(crate) struct Guarded {
    control: OwnedFd,
    launcher: std::process::Child,
    pid: u32,
    cgroups: Cgroups,
    missing: Vec<String>,
    ended: Option<ExitStatus>,
}

impl Guarded {
    /// Waits for the launcher's word that the program runs.
    pub(crate) fn started(
        control: OwnedFd,
        mut launcher: std::process::Child,
        cgroups: Cgroups,
        missing: Vec<String>,
    ) -> Result<Self, LaunchError> {
        let failed = |source| LaunchError::Helper { step: "heard", source };
        let report = match next_report(&control, Instant::now() + PATIENCE) {
            Ok(Some(report)) => report,
            silence => {
                // It did not do its part; its own end is of no interest.
                launcher.kill().ok();
                launcher.wait().ok();
                let source = silence.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                return Err(failed(source));
            }
        };
        match report {
            Report::Started { pid } => {
                Ok(Self { control, launcher, pid, cgroups, missing, ended: None })
            }
            Report::Failed(failure) => {
                launcher.wait().ok();
                Err(failure.into())
            }
            Report::Sealed { .. } | Report::SealFailed(_) | Report::Exited(_) => {
                Err(failed(io::ErrorKind::InvalidData.into()))
            }
        }
    }

    fn take_exit(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        self.launcher.wait().ok();
        self.cgroups.remove();
    }
}

impl Process for Guarded {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn seal(&mut self) -> Result<SealReport, SealError> {
        if packet::send(&self.control, &Request::Seal, &[]).is_err() {
            return Err(SealError::Gone);
        }
        match next_report(&self.control, Instant::now() + PATIENCE) {
            Ok(Some(Report::Sealed { applied, mut missing })) => {
                missing.append(&mut self.missing);
                Ok(SealReport { applied, missing })
            }
            Ok(Some(Report::SealFailed(failure))) => {
                Err(SealError::Step { step: failure.described(), source: failure.source() })
            }
            Ok(Some(Report::Exited(ended))) => {
                self.take_exit(ended.into());
                Err(SealError::Gone)
            }
            Ok(Some(Report::Started { .. } | Report::Failed(_)) | None) => Err(SealError::Gone),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(SealError::NoAnswer { waited: PATIENCE })
            }
            Err(source) => {
                Err(SealError::Step { step: "hearing from the launcher".to_owned(), source })
            }
        }
    }

    fn kill_switch(&self) -> io::Result<KillSwitch> {
        Ok(KillSwitch::new(self.control.try_clone()?))
    }

    fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        if self.ended.is_some() {
            return self.ended;
        }
        let deadline = Instant::now() + timeout;
        loop {
            match next_report(&self.control, deadline) {
                Ok(Some(Report::Exited(ended))) => {
                    self.take_exit(ended.into());
                    return self.ended;
                }
                Ok(Some(
                    Report::Started { .. }
                    | Report::Failed(_)
                    | Report::Sealed { .. }
                    | Report::SealFailed(_),
                )) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return None,
                // The launcher died, and the process with it.
                Ok(None) | Err(_) => {
                    self.take_exit(ExitStatus::Unknown);
                    return self.ended;
                }
            }
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Even where a kill switch keeps the socket open.
            rustix::net::shutdown(&self.control, rustix::net::Shutdown::Write).ok();
            self.wait(PATIENCE);
        }
    }
}

fn next_report(control: &impl AsFd, deadline: Instant) -> io::Result<Option<Report>> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut waiting = [PollFd::new(control, PollFlags::IN)];
        match poll(&mut waiting, Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(packet::receive(control)?.map(|(report, _)| report)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
