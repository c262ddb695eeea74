//! The destination's side.

use std::io::{BufReader, BufWriter, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use vmstream::contract::Comparison;
use vmstream::message::{Hello, Purpose};
use vmstream::{Event, Finding, Writer};
use vmstream_qmp::Contract;
use vmstream_transcode::{Form, Way, from_vmstream_by, is_last_ahead};

use crate::address::Address;
use crate::door::{Caller, Door};
use crate::error::BridgeError;
use crate::listener::Listener;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::offer::{Offer, Reply, SHARED, compare, say};
use crate::watch::Watch;
use crate::wire::Wire;
use crate::{News, Outcome, answers};

/// How long a sender may leave what QEMU answers where it is.
const ANSWERED: Duration = Duration::from_secs(60);
/// How long the end of a stream may take of which QEMU has all that it needs.
const END: Duration = Duration::from_secs(60);
/// How long QEMU may take to start a guest that it has, or to say why it does not.
const START: Duration = Duration::from_secs(60);
/// How long what a sender still sends is taken, so that he reads why it was in vain.
const TOLD: Duration = Duration::from_secs(1);
/// Bytes of the stream that are read at once.
const BUFFER: usize = 256 << 10;

/// What to receive, and with what.
#[derive(Clone, Debug)]
pub struct Receive {
    /// The QMP socket of a QEMU that waits with `-incoming defer`.
    pub qmp: PathBuf,
    /// Where to wait for a sender.
    pub listen: Address,
    /// Whether QEMU is given nothing of devices but what has been read from their records. If not, it loads them as they come, and
    /// what was read must be the same.
    pub from_records: bool,
    /// A socket at which others may read the stream, from whenever they come.
    pub watch: Option<PathBuf>,
}

/// Waits for a sender, compares the contracts, and takes the guest if they agree. Senders that make no sense are sent away,
/// and those that only ask are answered, whatever the answer is, and the next one is waited for.
///
/// Returns what the guest does now: `running`, `paused`.
///
/// # Errors
///
/// [`BridgeError`]: the guest did not arrive.
pub fn receive(
    options: &Receive,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Outcome<String>, BridgeError> {
    let mut machine = Machine::connect(&options.qmp)?;
    let status = machine.status()?;
    if status != "inmigrate" {
        return Err(BridgeError::NotWaiting { status });
    }
    let contract = machine.contract()?;
    let networks = machine.user_networks()?;
    let at = |source| BridgeError::Address { address: options.listen.clone(), source };
    let watch = options.watch.as_ref().map(|path| {
        let at = |source| BridgeError::Address { address: Address::Unix(path.clone()), source };
        Watch::listen(path).map_err(at)
    });
    let mut watch = watch.transpose()?;
    let (listener, address) = Listener::bind(&options.listen).map_err(at)?;
    let mut door = Door::new(listener)?;
    tell(News::Listening(&address));
    loop {
        let Caller { wire, input, offer } = match door.next().map_err(at)? {
            Ok(caller) => caller,
            Err(error) => {
                tell(News::Stranger(&error));
                continue;
            }
        };
        let comparison = judge(&mut machine, &contract, &offer);
        let reply = Reply {
            contract: contract.clone(),
            verdict: comparison.verdict(),
            user_networks: Some(networks).filter(|_| !options.from_records),
        };
        if let Err(error) = say(&wire, reply.write()) {
            tell(News::Stranger(&error));
            continue;
        }
        tell(News::Verdict(&comparison));
        if offer.only_asks {
            continue;
        }
        if !comparison.accepts() {
            return Ok(Outcome::Refused);
        }
        drop(door);
        let here = Here { contract, networks, ahead: !options.from_records };
        return take(&mut machine, &here, wire, (input, &mut watch)).map(Outcome::Moved);
    }
}

/// Compares, and makes the destination's QEMU ready if that is wanted.
fn judge(machine: &mut Machine, contract: &Contract, offer: &Offer) -> Comparison {
    let mut comparison = compare(&offer.contract, contract);
    if comparison.accepts() && !offer.only_asks {
        for name in SHARED {
            if let Err(error) = machine.set_capability(name, offer.capabilities.contains(name)) {
                // A QEMU that does not know it need not have it off.
                if offer.capabilities.contains(name) {
                    let path = format!("migration#{name}");
                    let finding = Finding::new("not-supported", path, "contract");
                    comparison.refusals.push(finding.because(error.to_string()));
                }
            }
        }
    }
    comparison
}

/// What is known of the destination before a sender comes.
struct Here {
    contract: Contract,
    /// Networks of the kind `user`.
    networks: u32,
    /// Whether it loads what has not been read yet.
    ahead: bool,
}

/// What of the destination is not in its contract: where the host's part of a stream goes.
struct Host {
    memory: Memory,
    /// Networks of the kind `user`.
    networks: u32,
    /// Whether it loads what has not been read yet.
    ahead: bool,
}

/// Takes the guest.
fn take(
    machine: &mut Machine,
    here: &Here,
    wire: Wire,
    (input, watch): (BufReader<Wire>, &mut Option<Watch>),
) -> Result<String, BridgeError> {
    wire.set_write_patience(Some(ANSWERED))?;
    let hello = Hello { purpose: Purpose::Answer, ..here.contract.hello() };
    let mut answers = Writer::new(BufWriter::new(wire.try_clone()?), &hello)?;
    answers.flush()?;
    let taken = || {
        let memory = Memory::new(machine.blocks()?);
        let host = Host { memory, networks: here.networks, ahead: here.ahead };
        let qemu = machine.migrate_incoming()?;
        let ends = carry(&qemu, &host, &wire, (input, watch), &mut answers);
        outcome(machine, ends)
    };
    let ended = taken();
    match &ended {
        Ok(_) => drop(answers.finish()?),
        // If it cannot be told, the end of the connection tells the source enough.
        Err(error) => {
            drop(answers.abort(&error.finding()));
            wire.linger(TOLD);
        }
    }
    wire.shut();
    ended
}

/// How the two directions ended.
struct Ends {
    state: Result<(), BridgeError>,
    /// What QEMU shut its return path with.
    shut: Result<Option<u32>, BridgeError>,
    /// Whether the stream ended first, and not because QEMU took no more of it.
    is_streams_fault: bool,
}

/// Carries the stream to QEMU, and QEMU's answers back, until both end.
fn carry(
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
fn outcome(machine: &mut Machine, ends: Ends) -> Result<String, BridgeError> {
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
