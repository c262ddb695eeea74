//! The destination's side.

use std::io::{BufReader, BufWriter, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use vmstream::contract::Comparison;
use vmstream::message::{Hello, Manifest, Purpose};
use vmstream::{Event, Finding, Writer};
use vmstream_qmp::Contract;
use vmstream_transcode::{Form, from_vmstream_watched};

use crate::error::BridgeError;
use crate::machine::Machine;
use crate::offer::{Offer, Reply, SHARED, compare};
use crate::wire::{Address, Listener, Wire};
use crate::{News, Outcome, answers};

/// How long a sender may think before it says what it has; to ask a QEMU takes about a second.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long QEMU may take to start a guest that it has, or to say why it does not.
const START: Duration = Duration::from_secs(60);
/// Bytes of the stream that are read at once.
const BUFFER: usize = 256 << 10;

/// What to receive, and with what.
#[derive(Clone, Debug)]
pub struct Receive {
    /// The QMP socket of a QEMU that waits with `-incoming defer`.
    pub qmp: PathBuf,
    /// Where to wait for a sender.
    pub listen: Address,
}

/// Waits for a sender, compares the contracts, and takes the guest if they agree. Senders that make no sense are sent away,
/// and those that only ask are answered, and the next one is waited for.
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
    let at = |source| BridgeError::Address { address: options.listen.clone(), source };
    let (listener, address) = Listener::bind(&options.listen).map_err(at)?;
    tell(News::Listening(&address));
    loop {
        let wire = listener.accept().map_err(at)?;
        let mut input = BufReader::with_capacity(BUFFER, wire.try_clone()?);
        let offer = wire.set_patience(Some(HANDSHAKE)).map_err(BridgeError::from);
        match offer.and_then(|()| Offer::read(&mut input)) {
            Err(error) => tell(News::Stranger(&error)),
            Ok(offer) => {
                let comparison = answer(&mut machine, &contract, &offer, &wire)?;
                tell(News::Verdict(&comparison));
                if !comparison.accepts() {
                    return Ok(Outcome::Refused);
                }
                if !offer.only_asks {
                    drop(listener);
                    wire.set_patience(None)?;
                    return take(&mut machine, &contract, wire, input).map(Outcome::Moved);
                }
            }
        }
    }
}

/// Compares, makes the destination's QEMU ready if that is wanted, and says so.
fn answer(
    machine: &mut Machine,
    contract: &Contract,
    offer: &Offer,
    wire: &Wire,
) -> Result<Comparison, BridgeError> {
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
    let reply = Reply { contract: contract.clone(), verdict: comparison.verdict() };
    reply.write(BufWriter::new(wire.try_clone()?))?;
    Ok(comparison)
}

/// How the two directions ended.
struct Ends {
    state: Result<(), BridgeError>,
    /// What QEMU shut its return path with.
    shut: Result<Option<u32>, BridgeError>,
}

/// Takes the guest.
fn take(
    machine: &mut Machine,
    contract: &Contract,
    wire: Wire,
    input: BufReader<Wire>,
) -> Result<String, BridgeError> {
    let hello = Hello { purpose: Purpose::Answer, ..contract.hello() };
    let mut answers = Writer::new(BufWriter::new(wire.try_clone()?), &hello)?;
    answers.flush()?;
    let ended = machine.migrate_incoming().and_then(|qemu| {
        let ends = carry(&qemu, &wire, input, &mut answers);
        outcome(machine, ends)
    });
    match &ended {
        Ok(_) => drop(answers.finish()?),
        // If it cannot be told, the end of the connection tells the source enough.
        Err(error) => drop(answers.abort(&error.finding())),
    }
    wire.shut();
    ended
}

/// Carries the stream to QEMU, and QEMU's answers back, until both end.
fn carry(
    qemu: &UnixStream,
    wire: &Wire,
    input: BufReader<Wire>,
    answers: &mut Writer<BufWriter<Wire>>,
) -> Ends {
    let manifest = OnceLock::new();
    let manifest_seen = |event: &Event| {
        if let Event::Manifest(seen) = event {
            // There is one in a stream.
            drop(manifest.set(Manifest::clone(seen)));
        }
    };
    let state = || -> Result<(), BridgeError> {
        let out = BufWriter::with_capacity(BUFFER, qemu.try_clone()?);
        let mut out =
            from_vmstream_watched(input, out, Form::Same, &mut |event| manifest_seen(event))?;
        Ok(out.flush()?)
    };
    thread::scope(|scope| {
        let state = scope.spawn(|| {
            let ended = state();
            if ended.is_err() {
                // QEMU must not wait for more.
                drop(qemu.shutdown(Shutdown::Both));
            }
            ended
        });
        let shut = qemu.try_clone().map_err(BridgeError::from);
        let shut = shut.and_then(|qemu| answers::forward(qemu, answers, &manifest));
        if !matches!(shut, Ok(Some(0))) {
            // Nobody takes what may still come.
            wire.stop_reading();
        }
        let gone = || Err(BridgeError::Talk { what: "a thread is gone" });
        Ends { state: state.join().unwrap_or_else(|_| gone()), shut }
    })
}

/// What became of it.
fn outcome(machine: &mut Machine, ends: Ends) -> Result<String, BridgeError> {
    let by_qemu = match ends.shut? {
        Some(0) => return ends.state.and_then(|()| started(machine)),
        Some(code) => format!("it took the stream and then failed ({code})"),
        None => "it ended the connection".to_owned(),
    };
    // QEMU hangs up on a broken stream; whose fault that is, the sender's end tells.
    if let Err(error) = &ends.state
        && !is_broken_pipe(error)
        && !matches!(machine.progress(), Ok(progress) if progress.error.is_some())
    {
        return ends.state.map(|()| String::new());
    }
    let said = machine.progress().ok().and_then(|progress| progress.error);
    let hint = "; its standard error may say more";
    Err(BridgeError::Qemu {
        who: "the destination's QEMU",
        why: said.unwrap_or_else(|| format!("{by_qemu}{hint}")),
    })
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
