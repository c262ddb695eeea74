//! The monitor's process, from its first instruction to its last.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bandsox_proto::chain;
use bandsox_spec::{EngineExit, StopReason, VmId};
use bandsox_store::{Create, ProcessIdentity, Store};

use crate::driver::Over;
use crate::log;
use crate::report::Reporter;
use crate::run::Run;
use crate::spawn::Report;

/// What `bandsox __monitor` was told.
#[derive(Clone, Debug)]
pub struct MonitorArgs {
    /// The storage directory.
    pub storage: PathBuf,
    /// Which VM; its lock is standard input.
    pub id: VmId,
    /// Leave vsock out.
    pub serial_only: bool,
    /// Run the engine without a jail.
    pub no_jail: bool,
    /// Write the log as JSON.
    pub json_log: bool,
    /// Pass the log's lines on while the VM starts.
    pub verbose: bool,
}

/// How long clients that wait for the end get to hear of it before the process is gone.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the monitor of one VM until the VM is over.
#[must_use]
pub fn run(args: &MonitorArgs) -> ExitCode {
    // Fails only for a process that leads its group already, and then there is nothing to leave.
    if rustix::process::setsid().is_err() {
        tracing::debug!("a session leader already");
    }
    let mut reporter = match Reporter::from_stdout() {
        Ok(reporter) => reporter,
        Err(_) => return ExitCode::FAILURE,
    };
    match start_and_run(args, &reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{}", failure.message);
            reporter.send(&Report::Failed { message: failure.message, hint: failure.hint });
            ExitCode::FAILURE
        }
    }
}

/// Why a VM did not start, in words for whoever asked.
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(error: &dyn std::error::Error) -> Self {
        Self { message: chain(error), hint: None }
    }
}

/// For errors of the operating system, which do not say what was being done.
pub(crate) fn doing<T>(what: &'static str) -> impl FnOnce(io::Error) -> Result<T, Failure> {
    move |error| Err(Failure { message: format!("could not {what}: {error}"), hint: None })
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(&error)
    }
}

fn start_and_run(args: &MonitorArgs, reporter: &Reporter) -> Result<(), Failure> {
    let store = Store::open(&args.storage, Create::No)?;
    let lock = store.adopt_lock_from_stdin(&args.id)?;
    let verbose = args.verbose.then(|| reporter.clone());
    private_dir(&store.paths().log_dir(&args.id)).or_else(doing("make the log directory"))?;
    let log = store.paths().monitor_log(&args.id);
    log::start(&log, args.json_log, verbose).or_else(doing("open the monitor's log"))?;
    let monitor = ProcessIdentity::current().or_else(doing("read /proc/self"))?;
    store.begin_run(&lock, &monitor)?;

    let run = Run { args, store: &store, lock: &lock };
    let (over, state) = match run.start(reporter) {
        Ok(started) => started,
        Err(failure) => {
            remove_sockets(&store, &args.id);
            let reason = StopReason::StartFailed { detail: bounded(&failure.message) };
            if let Err(error) = store.end_run(&lock, &reason) {
                tracing::error!(error = %chain(&error), "the failed start could not be written down");
            }
            return Err(failure);
        }
    };
    let Over { reason, waiting } = over;
    tracing::info!(reason = %reason, "VM is over");
    remove_sockets(&store, &args.id);
    if let Err(error) = store.end_run(&lock, &reason) {
        tracing::error!(error = %chain(&error), "the end could not be written down");
    }
    // Whoever hears of the end may start or remove the VM at once.
    drop(lock);
    let never_ready = state.ready_at().is_none();
    for reply in waiting {
        // A client that has hung up no longer wants to know.
        drop(reply.send(Ok(())));
    }
    state.wait_for_clients(FAREWELL);
    if never_ready {
        let message = format!("VM {} ended before its agent answered: {reason}", args.id);
        let hint = Some(format!("look at `bandsox logs {}`", args.id));
        return Err(Failure { message, hint });
    }
    Ok(())
}

/// As much of a text as metadata hold.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(EngineExit::MAX_DETAIL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Makes a directory that only its owner can enter, if it is not there.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Removes what a run has in its socket directory, and the directory.
pub(crate) fn remove_sockets(store: &Store, id: &VmId) {
    let dir = store.paths().socket_dir(id);
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "the VM's sockets could not be removed");
    }
}
