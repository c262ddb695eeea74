//! Proof that the jail holds on this host.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bandsox_engine::{
    ExitStatus, InheritedFd, LaunchError, LaunchSpec, Launcher, Limits, Process, SealError,
    SealReport,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::getpid;

use crate::jail::{Helper, Jail};
use crate::probe::{Attempt, Outcome, REPORT_FD, SEALED_FD, Targets};

/// What a probe in the jail could do and could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Everything that was tried, in order.
    pub attempts: Vec<Attempt>,
    /// What sealing achieved.
    pub seal: SealReport,
}

impl Proof {
    /// Attempts that succeeded: holes.
    pub fn holes(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Succeeded { .. }))
    }

    /// Whether nothing succeeded that must fail.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.attempts.is_empty() && self.holes().next().is_none()
    }
}

impl Helper {
    /// This very program, called as `__probe`.
    ///
    /// # Errors
    ///
    /// When the program's own path cannot be told.
    pub fn probe() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, args: vec!["__probe".into()] })
    }
}

/// Runs `probe` in `jail` in an engine's place and reports what it could do.
///
/// # Errors
///
/// See [`ProveError`]; the jail could not be made, or the probe did not finish.
pub fn prove(jail: &Jail, probe: &Helper) -> Result<Proof, ProveError> {
    let plumbing = |source| ProveError::Plumbing { source };
    let bait = Bait::lay().map_err(plumbing)?;
    let (report, report_theirs) = io::pipe().map_err(plumbing)?;
    let (sealed_theirs, mut sealed) = io::pipe().map_err(plumbing)?;
    let null = File::options().write(true).open("/dev/null").map_err(plumbing)?;
    let mut args = probe.args.clone();
    args.push(bait.targets.into());
    let mut process = jail
        .launch(LaunchSpec {
            program: probe.program.clone(),
            args,
            fds: vec![
                InheritedFd { fd: report_theirs.into(), number: REPORT_FD },
                InheritedFd { fd: sealed_theirs.into(), number: SEALED_FD },
            ],
            stderr: null.into(),
            load_paths: Vec::<PathBuf>::new(),
            devices: vec![],
            limits: Limits { open_files: 64, tasks: 24, file_size: 1 << 20, memory: 256 << 20 },
        })
        .map_err(|source| ProveError::Launch { source })?;

    let mut report =
        Answers { lines: BufReader::new(File::from(std::os::fd::OwnedFd::from(report))) };
    let mut attempts = report.next_batch(process.as_mut())?;
    let seal = process.seal().map_err(|source| ProveError::Seal { source })?;
    sealed.write_all(b"sealed\n").map_err(plumbing)?;
    attempts.extend(report.next_batch(process.as_mut())?);
    Ok(Proof { attempts, seal })
}

/// What the probe is to reach for, really there.
struct Bait {
    targets: String,
    _tcp: TcpListener,
    _abstract_socket: UnixListener,
}

impl Bait {
    fn lay() -> io::Result<Self> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let pid = getpid().as_raw_nonzero().get();
        let name = format!("bandsox-doctor-{pid}-{}", tcp.local_addr()?.port());
        let address = SocketAddr::from_abstract_name(&name)?;
        let abstract_socket = UnixListener::bind_addr(&address)?;
        let targets = Targets { pid, tcp_port: tcp.local_addr()?.port(), abstract_socket: name };
        Ok(Self {
            targets: serde_json::to_string(&targets)?,
            _tcp: tcp,
            _abstract_socket: abstract_socket,
        })
    }
}

/// The probe's report as it comes in.
struct Answers {
    lines: BufReader<File>,
}

/// How long the probe may take for what takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

impl Answers {
    /// Attempts up to the next empty line.
    fn next_batch(&mut self, process: &mut dyn Process) -> Result<Vec<Attempt>, ProveError> {
        let deadline = Instant::now() + PATIENCE;
        let mut batch = Vec::new();
        loop {
            let line = match self.next_line(deadline) {
                Ok(line) => line,
                Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                    let status = process.wait(PATIENCE).unwrap_or(ExitStatus::Unknown);
                    return Err(ProveError::Died { status, attempts: batch.len() });
                }
                Err(source) => return Err(ProveError::Plumbing { source }),
            };
            if line.trim().is_empty() {
                return Ok(batch);
            }
            let attempt = serde_json::from_str(&line)
                .map_err(|error| ProveError::Plumbing { source: error.into() })?;
            batch.push(attempt);
        }
    }

    fn next_line(&mut self, deadline: Instant) -> io::Result<String> {
        let mut line = String::new();
        while !line.ends_with('\n') {
            if self.lines.buffer().is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = left.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
                let mut waiting = [PollFd::new(self.lines.get_ref(), PollFlags::IN)];
                if poll(&mut waiting, Some(&timeout))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            if self.lines.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(line)
    }
}

/// The jail could not be put to the test.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// A pipe or a socket failed.
    #[error("the probe's connections failed")]
    Plumbing {
        /// What the operating system said.
        source: io::Error,
    },
    /// The jail could not be made.
    #[error("the jail could not be made")]
    Launch {
        /// Why.
        source: LaunchError,
    },
    /// The jail could not be sealed.
    #[error("the jail could not be sealed")]
    Seal {
        /// Why.
        source: SealError,
    },
    /// The probe ended before its report did.
    #[error("the probe ended with {status} after {attempts} attempts")]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// Attempts that it had reported since its last stage.
        attempts: usize,
    },
}
