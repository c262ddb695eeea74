//! A guest comes: its stream to QEMU, QEMU's answers back, and what became of it.

use std::io::{BufReader, BufWriter, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use vmstream::{Event, Writer};
use vmstream_transcode::{Form, Way, from_vmstream_by, is_last_ahead};

use crate::answers;
use crate::error::BridgeError;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::watch::Watch;
use crate::wire::Wire;

/// How long the end of a stream may take of which QEMU has all that it needs.
const END: Duration = Duration::from_secs(60);
/// How long QEMU may take to start a guest that it has, or to say why it does not.
const START: Duration = Duration::from_secs(60);
/// Bytes of the stream that are read at once.
const BUFFER: usize = 256 << 10;

/// What of the destination is not in its contract: where the host's part of a stream goes.
pub(crate) struct Host {
    pub(crate) memory: Memory,
    /// Networks of the kind `user`.
    pub(crate) networks: u32,
    /// Whether it loads what has not been read yet.
    pub(crate) ahead: bool,
}

/// How the two directions ended.
pub(crate) struct Ends {
    state: Result<(), BridgeError>,
    /// What QEMU shut its return path with.
    shut: Result<Option<u32>, BridgeError>,
    /// Whether the stream ended first, and not because QEMU took no more of it.
    is_streams_fault: bool,
}

/// Carries the stream to QEMU, and QEMU's answers back, until both end.
pub(crate) fn carry(
    qemu: &UnixStream,
    host: &Host,
    wire: &Wire,
    (input, watch): (BufReader<Wire>, &mut Option<Watch>),
    answers: &mut Writer<BufWriter<Wire>>,
) -> Ends {
    let (has_ended, has_all) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let (has_ended, has_all) = (&has_ended, &has_all);
        let state = scope.spawn(move || {
            let _over = over;
            let ended = state(qemu, host, input, (watch, has_all));
            let at_fault = ended.as_ref().is_err_and(|error| !is_broken_pipe(error));
            let is_first = at_fault && !has_ended.load(Ordering::SeqCst);
            // QEMU must not wait for more. If it has all, what it says decides where the guest is.
            let has_all = ended.is_ok() || has_all.load(Ordering::SeqCst);
            drop(qemu.shutdown(if has_all { Shutdown::Write } else { Shutdown::Both }));
            (ended, is_first)
        });
        let shut = qemu.try_clone().map_err(BridgeError::from);
        let shut = shut.and_then(|qemu| answers::forward(qemu, answers, &host.memory));
        if !matches!(shut, Ok(Some(0))) {
            // Nobody takes what may still come.
            has_ended.store(true, Ordering::SeqCst);
            wire.stop_reading();
        } else if is_over.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            wire.stop_reading();
        }
        let gone = |_| (Err(BridgeError::Talk { what: "a thread is gone" }), true);
        let (state, is_streams_fault) = state.join().unwrap_or_else(gone);
        Ends { state, shut, is_streams_fault }
    })
}

/// Carries the stream to QEMU.
///
/// A user network is the host's: its state goes to one that the destination has, and nowhere if there is none.
fn state(
    qemu: &UnixStream,
    host: &Host,
    input: BufReader<Wire>,
    (watch, has_all): (&mut Option<Watch>, &AtomicBool),
) -> Result<(), BridgeError> {
    let out = BufWriter::with_capacity(BUFFER, qemu.try_clone()?);
    let way = Way {
        form: Form::Same,
        ahead: host.ahead,
        seen: &mut |epoch, event| {
            if host.ahead && is_last_ahead(event) {
                has_all.store(true, Ordering::SeqCst);
            }
            if let Some(watch) = watch {
                watch.event(epoch, event);
            }
            match event {
                Event::Manifest(manifest) => host.memory.learn(manifest),
                _ => Ok(()),
            }
        },
        renamed: &|name| host.memory.name_there(name),
        is_left_out: &|head| &*head.name == "slirp" && head.instance_id >= host.networks,
    };
    let mut out = from_vmstream_by(input, out, way)?;
    Ok(out.flush()?)
}

/// What became of it.
pub(crate) fn outcome(machine: &mut Machine, ends: Ends) -> Result<String, BridgeError> {
    let Ends { state, shut, is_streams_fault } = ends;
    let by_qemu = match shut {
        Err(error) if !is_streams_fault => return Err(error),
        Ok(Some(0)) => {
            let status = started(machine)?;
            return match state {
                Ok(()) => Ok(status),
                Err(error) => Err(unconfirmed(machine, status, error)),
            };
        }
        Ok(Some(code)) => format!("it took the stream and failed ({code})"),
        Ok(None) | Err(_) => "it ended the connection".to_owned(),
    };
    if is_streams_fault {
        state?;
    }
    let said = machine.progress().ok().and_then(|progress| progress.error);
    let why = said.unwrap_or_else(|| format!("{by_qemu}; its standard error may say more"));
    Err(BridgeError::Qemu { who: "the destination's QEMU", why })
}

/// Of a guest that has arrived before its stream broke. If the connection is gone, its source may run it, too, and here it stands
/// still until somebody has looked.
fn unconfirmed(machine: &mut Machine, mut status: String, error: BridgeError) -> BridgeError {
    let is_cut = matches!(error, BridgeError::Transcode(vmstream_transcode::Error::Read(_)));
    if is_cut && status == "running" && machine.pause().is_ok() {
        "paused".clone_into(&mut status);
    }
    BridgeError::Unconfirmed { status, source: Box::new(error) }
}

/// Waits until QEMU has the guest as the source had it.
fn started(machine: &mut Machine) -> Result<String, BridgeError> {
    let deadline = Instant::now() + START;
    loop {
        let status = machine.status()?;
        if !["inmigrate", "finish-migrate"].contains(&status.as_str()) {
            return Ok(status);
        }
        if Instant::now() > deadline {
            let why = format!("it has the guest, and is still {status}");
            return Err(BridgeError::Qemu { who: "the destination's QEMU", why });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether QEMU took no more.
fn is_broken_pipe(error: &BridgeError) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let mut kinds = causes.filter_map(|each| each.downcast_ref::<std::io::Error>());
    kinds.any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
