//! The storage directory that the user means, and the VMs in it.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bandsox_client::{ConnectError, Monitor, RequestError};
use bandsox_spec::VmId;
use bandsox_store::{Create, OpenError, ResolveError, StateError, Store};
use serde::Serialize;

use crate::failure::{Explain as _, Failure};
use crate::output::Ui;

/// Where storage is unless the user says otherwise.
pub(crate) const DEFAULT: &str = "/var/lib/bandsox";

/// How long a monitor may take to end after it said that its VM is off.
const SETTLING: Duration = Duration::from_secs(30);

/// Opens the storage directory that the user named, or the default one.
pub(crate) fn open(named: Option<&Path>, create: Create) -> Result<Store, Failure> {
    let path = named.map_or_else(|| PathBuf::from(DEFAULT), Path::to_path_buf);
    match Store::open(&path, create) {
        Err(error @ OpenError::Missing { .. }) => {
            Err(Failure::from(error).hint("name another one with --storage or BANDSOX_STORAGE"))
        }
        other => other
            .context(format!("cannot use the storage directory {}", path.display()))
            .hint("name a directory of your own with --storage or BANDSOX_STORAGE"),
    }
}

/// Finds the VM that the user means.
pub(crate) fn resolve(store: &Store, text: &str) -> Result<VmId, Failure> {
    store.resolve(text).map_err(|error| {
        let hint = if let ResolveError::NotFound { .. } = &error {
            Some("`bandsox list` shows all VMs")
        } else if let ResolveError::Ambiguous { .. } = &error {
            Some("give more of the id")
        } else {
            None
        };
        Failure::from(error).hint_if(hint.map(ToOwned::to_owned))
    })
}

/// A VM that a command is about, and what every step of the command needs.
#[derive(Clone, Copy)]
pub(crate) struct Vm<'a> {
    /// Where messages go.
    pub(crate) ui: &'a Ui,
    /// Where the VM is written down.
    pub(crate) store: &'a Store,
    /// Which one.
    pub(crate) id: &'a VmId,
}

/// Why nobody speaks for a VM.
#[derive(Debug)]
pub(crate) enum NoMonitor {
    /// It does not run.
    Down(Failure),
    /// It runs, and cannot be spoken to at the moment.
    Mute(Failure),
}

impl From<NoMonitor> for Failure {
    fn from(no: NoMonitor) -> Self {
        match no {
            NoMonitor::Down(failure) | NoMonitor::Mute(failure) => failure,
        }
    }
}

/// Connects to the monitor of a VM.
pub(crate) fn monitor(store: &Store, id: &VmId) -> Result<Monitor, NoMonitor> {
    let error = match Monitor::connect(&store.paths().control_socket(id)) {
        Ok(monitor) => return Ok(monitor),
        Err(error) => error,
    };
    let unserved = matches!(error, ConnectError::NotServed { .. });
    let cannot = format!("cannot reach VM {id}");
    Err(match store.state(id) {
        Ok((metadata, state)) if !state.live => {
            let name = metadata.name().map_or_else(|| id.to_string(), ToOwned::to_owned);
            let why = state.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
            let told = format!("VM {name:?} is not running; it is {}{why}", state.phase);
            NoMonitor::Down(Failure::new(told).hint(format!("run `bandsox start {name}`")))
        }
        Ok(_) if unserved => NoMonitor::Mute(
            Failure::from(error).context(cannot).hint("it is starting or stopping; try again"),
        ),
        Err(StateError::Read(damaged)) if unserved => {
            NoMonitor::Down(Failure::from(damaged).context(cannot))
        }
        Ok(_) | Err(_) => NoMonitor::Mute(Failure::from(error).context(cannot)),
    })
}

/// A monitor's refusal, with the advice that came with it.
pub(crate) fn refused(error: RequestError) -> Failure {
    let hint = error.hint().map(ToOwned::to_owned);
    Failure::from(error).hint_if(hint)
}

/// Waits until the monitor of a VM that is off has ended too, so that the VM can be started or
/// removed at once.
pub(crate) fn settled(store: &Store, id: &VmId) -> Result<(), Failure> {
    let began = Instant::now();
    while store.is_live(id)? {
        if began.elapsed() > SETTLING {
            return Err(Failure::new(format!("the monitor of VM {id} does not end")));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Does the same to several VMs or images. All are tried; each failure is reported where it happens, and the
/// last one decides the exit code.
pub(crate) fn each(
    ui: &Ui,
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for name in names {
        if let Err(failure) = act(name) {
            let code = failure.exit_code();
            if let [_] = names {
                return Err(failure);
            }
            ui.report(&failure);
            outcome = Err(Failure::silent(code));
        }
    }
    outcome
}

/// As [`each`], with a result of each: `show` prints it for people. As JSON, that of one name is an object, and those of
/// several are an array of what was done.
pub(crate) fn each_shown<T: Serialize>(
    ui: &Ui,
    names: &[String],
    mut act: impl FnMut(&str) -> Result<T, Failure>,
    mut show: impl FnMut(&T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut done = Vec::new();
    let outcome = each(ui, names, |name| {
        let result = act(name)?;
        if ui.is_json() {
            done.push(result);
            return Ok(());
        }
        show(&result)
    });
    match (ui.is_json(), names, done.as_slice()) {
        (false, ..) | (true, [_], []) => {}
        (true, [_], [result, ..]) => ui.json(result)?,
        (true, ..) => ui.json(&done)?,
    }
    outcome
}
