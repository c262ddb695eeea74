//! Starting a monitor from another process, and hearing how it went.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bandsox_spec::VmId;
use bandsox_store::{LockError, Store};
use serde::{Deserialize, Serialize};

/// What to start.
#[derive(Clone, Debug)]
pub struct SpawnRequest {
    /// The storage directory.
    pub storage: PathBuf,
    /// Which VM.
    pub id: VmId,
    /// Leave vsock out.
    pub serial_only: bool,
    /// Run the engine without a jail, for debugging.
    pub no_jail: bool,
    /// Write the log as JSON, one object a line.
    pub json_log: bool,
    /// Pass the log's lines on while the VM starts.
    pub verbose: bool,
}

/// A VM that runs and whose agent has answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The guest's context id, with vsock.
    pub cid: Option<u32>,
    /// The vsock port that its agent listens on, with vsock.
    pub port: Option<u32>,
    /// `vsock` or `serial`: what the agent said hello over.
    pub transport: String,
    /// Process id of the monitor.
    pub pid: u32,
    /// Milliseconds from the monitor's start until the agent answered.
    pub ready_ms: u64,
    /// What the user should know although it worked.
    pub warnings: Vec<String>,
}

/// Why a VM did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// It runs already.
    #[error("VM {id} is running already")]
    Running {
        /// Which VM.
        id: VmId,
    },
    /// The storage did not let it be locked.
    #[error("VM {id} cannot be locked")]
    Lock {
        /// Which VM.
        id: VmId,
        /// Why.
        source: LockError,
    },
    /// The monitor's process did not start.
    #[error("the monitor of VM {id} could not be started")]
    Process {
        /// Which VM.
        id: VmId,
        /// What the operating system said.
        source: io::Error,
    },
    /// The monitor tried, and says why it did not work.
    #[error("{message}")]
    Failed {
        /// In the monitor's words.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The monitor ended without a word.
    #[error("the monitor of VM {id} ended before the VM was ready; see {}", log.display())]
    Silent {
        /// Which VM.
        id: VmId,
        /// Its log.
        log: PathBuf,
    },
}

/// What a monitor writes to its standard output while it starts: one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A line of the log, on request.
    Log(String),
    /// The end of the start: it worked.
    Started(Started),
    /// The end of the start: it did not.
    Failed {
        /// Why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// Longest report, in bytes.
const MAX_REPORT: u64 = 256 * 1024;

/// Starts the monitor of a VM and waits until its agent has answered, or it has failed. `on_log` gets the lines of the
/// log if the request asks for them. The monitor lives on when the caller ends.
///
/// # Errors
///
/// See [`SpawnError`]. The VM does not run then.
pub fn spawn(request: &SpawnRequest, on_log: &mut dyn FnMut(&str)) -> Result<Started, SpawnError> {
    let id = || request.id.clone();
    let process = |source| SpawnError::Process { id: id(), source };
    let store = Store::open(&request.storage, bandsox_store::Create::No).map_err(|error| {
        SpawnError::Failed { message: bandsox_proto::chain(&error), hint: None }
    })?;
    let lock = store
        .try_lock_vm(&request.id)
        .map_err(|source| SpawnError::Lock { id: id(), source })?
        .ok_or_else(|| SpawnError::Running { id: id() })?;

    let (reports, theirs) = io::pipe().map_err(process)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("__monitor").arg("--storage").arg(store.paths().root()).arg(request.id.as_str());
    for (flag, given) in [
        ("--serial-only", request.serial_only),
        ("--no-jail", request.no_jail),
        ("--json-log", request.json_log),
        ("--verbose", request.verbose),
    ] {
        if given {
            command.arg(flag);
        }
    }
    command.current_dir("/").stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
    let child = lock.spawn_holding(&mut command).map_err(process)?;
    // The command holds the pipe's other end; its end of file is the monitor's only once this copy is gone.
    drop(command);
    // The monitor is waited for by whoever inherits it.
    drop(child);

    let mut reports = BufReader::new(File::from(OwnedFd::from(reports)).take(MAX_REPORT));
    let mut line = String::new();
    loop {
        line.clear();
        let got = reports.read_line(&mut line).unwrap_or(0);
        let silent =
            || SpawnError::Silent { id: id(), log: store.paths().monitor_log(&request.id) };
        match serde_json::from_str(&line) {
            Ok(Report::Log(text)) => on_log(&text),
            Ok(Report::Started(started)) => return Ok(started),
            Ok(Report::Failed { message, hint }) => {
                return Err(SpawnError::Failed { message, hint });
            }
            Err(_) if got == 0 => return Err(silent()),
            Err(_) => {}
        }
    }
}
