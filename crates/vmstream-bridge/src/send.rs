//! The source's side.

use std::collections::BTreeSet;
use std::io::{BufReader, BufWriter};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use vmstream::Finding;
use vmstream::contract::Comparison;
use vmstream::message::{Manifest, Verdict};
use vmstream::writer::Compress;
use vmstream_qemu::Reader as QemuReader;
use vmstream_transcode::{Options, to_vmstream};

use crate::address::Address;
use crate::ending::{as_before, reason, settle};
use crate::error::BridgeError;
use crate::machine::{Machine, Progress};
use crate::offer::{Offer, Reply, SHARED, compare, say};
use crate::wire::Wire;
use crate::{News, Outcome, answers};

/// How long a destination may think about the contract.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How often QEMU is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// How long the ends of both streams are waited for when QEMU says that it is over, and QEMU when they are.
const END: Duration = Duration::from_secs(60);
/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;
/// What changes nothing that goes through here; the rest would need channels of its own, or pages as differences.
const OTHERS: [&str; 9] = [
    "auto-converge",
    "background-snapshot",
    "dirty-limit",
    "events",
    "late-block-activate",
    "pause-before-switchover",
    "postcopy-blocktime",
    "release-ram",
    "zero-blocks",
];

/// What to send, and where.
#[derive(Clone, Debug)]
pub struct Send {
    /// The QMP socket of the QEMU that has the guest.
    pub qmp: PathBuf,
    /// Where the receiver waits.
    pub to: Address,
    /// Whether nothing is wanted but the verdict.
    pub only_asks: bool,
    /// After how many passes over memory the guest goes over, and the rest of its pages follow; never, if none.
    pub postcopy: Option<u64>,
    /// Bytes a second that QEMU may send; its own setting if none.
    pub max_bandwidth: Option<u64>,
    /// Milliseconds that the guest may stand still; QEMU's own setting if none.
    pub downtime_limit: Option<u64>,
    /// Becomes false when there is something to be undone. Who then sets it has the migration cancelled, unless the guest has
    /// gone ahead of its pages: without them it would be lost.
    pub stop: Arc<AtomicBool>,
}

/// What it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// As QEMU counted.
    pub progress: Progress,
}

/// Compares the contracts, and sends the guest if they agree.
///
/// # Errors
///
/// [`BridgeError`]: the guest did not go. [`BridgeError::Source`] says what became of it if anything had been sent.
pub fn send(
    options: &Send,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Outcome<Summary>, BridgeError> {
    let mut machine = Machine::connect(&options.qmp)?;
    let status = machine.status()?;
    if status == "inmigrate" {
        return Err(BridgeError::NoGuest);
    }
    let capabilities = expect_ready(&mut machine)?;
    let contract = machine.contract()?;
    let at = |source| BridgeError::Address { address: options.to.clone(), source };
    let wire = Wire::connect(&options.to).map_err(at)?;
    let mut shared: BTreeSet<_> =
        capabilities.iter().filter(|name| SHARED.contains(&name.as_str())).cloned().collect();
    // Without it the source would let go of its guest before the destination has it.
    shared.insert("return-path".to_owned());
    if options.postcopy.is_some() {
        shared.insert("postcopy-ram".to_owned());
    }
    let offer = Offer { contract, capabilities: shared, only_asks: options.only_asks };
    say(&wire, offer.write())?;
    let mut input = BufReader::new(wire.try_clone()?);
    let reply = Wire::hear(&mut input, HANDSHAKE, Reply::read)?;
    let comparison = judged(&offer, &reply);
    tell(News::Verdict(&comparison));
    if !comparison.accepts() {
        return Ok(Outcome::Refused);
    }
    if options.only_asks {
        return Ok(Outcome::WouldMove);
    }
    let turned_on: Vec<_> = offer.capabilities.difference(&capabilities).cloned().collect();
    let networks = machine.user_networks()?;
    // What the destination leaves out cannot be handed on before it is known what it is.
    let ahead = reply.user_networks.filter(|there| networks <= *there).map(|_| Arc::default());
    let job = Job { options, offer: &offer, verdict: &reply.verdict, ahead, wire: &wire };
    options.stop.store(false, Ordering::SeqCst);
    let begun = set_up(&mut machine, options, &turned_on).and_then(|()| machine.migrate());
    let sent = match begun {
        Ok(qemu) => job.run(&mut machine, &qemu, input, tell).map_err(|error| {
            wire.shut();
            (settle(&mut machine, &status, &turned_on), error)
        }),
        Err(error) => {
            wire.shut();
            Err((as_before(&mut machine, &turned_on), error))
        }
    };
    sent.map(Outcome::Moved)
        .map_err(|(state, error)| BridgeError::Source { state, source: Box::new(error) })
}

/// The capabilities that are on, if the guest can go through here.
fn expect_ready(machine: &mut Machine) -> Result<BTreeSet<String>, BridgeError> {
    let progress = machine.progress()?;
    if !["", "none", "completed", "failed", "cancelled"].contains(&progress.status.as_str()) {
        return Err(BridgeError::Busy { status: progress.status });
    }
    let capabilities = machine.capabilities()?;
    let known = |name: &str| SHARED.contains(&name) || OTHERS.contains(&name);
    match capabilities.iter().find(|name| !known(name)) {
        Some(name) => Err(BridgeError::Capability { name: name.clone() }),
        None => Ok(capabilities),
    }
}

/// What both found. The same is found here as there; if the destination refuses for more than that, that counts.
fn judged(offer: &Offer, reply: &Reply) -> Comparison {
    let mut comparison = compare(&offer.contract, &reply.contract);
    if comparison.accepts() && !reply.verdict.accepted {
        let Comparison { consequences, remarks, .. } = &comparison;
        let is_new = |each: &&Finding| !consequences.contains(each) && !remarks.contains(each);
        comparison.refusals = reply.verdict.findings.iter().filter(is_new).cloned().collect();
        if comparison.refusals.is_empty() {
            let finding = Finding::new("refused", "", "contract");
            comparison.refusals.push(finding.because("the destination does not say why"));
        }
    }
    comparison
}

fn set_up(machine: &mut Machine, options: &Send, turned_on: &[String]) -> Result<(), BridgeError> {
    for name in turned_on {
        machine.set_capability(name, true)?;
    }
    if let Some(bandwidth) = options.max_bandwidth {
        machine.set_parameter("max-bandwidth", bandwidth)?;
    }
    if let Some(limit) = options.downtime_limit {
        machine.set_parameter("downtime-limit", limit)?;
    }
    Ok(())
}

/// Which of the two directions ended, and how.
enum End {
    State(Result<(), BridgeError>),
    Answers(Result<(), BridgeError>),
}

struct Job<'a> {
    options: &'a Send,
    offer: &'a Offer,
    verdict: &'a Verdict,
    /// Whether devices are handed on before they are understood, and then whether the last of it has been: the guest may have
    /// been started.
    ahead: Option<Arc<AtomicBool>>,
    wire: &'a Wire,
}

impl Job<'_> {
    fn run(
        &self,
        machine: &mut Machine,
        qemu: &UnixStream,
        input: BufReader<Wire>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Summary, BridgeError> {
        let manifest = Arc::new(OnceLock::new());
        let (sender, ends) = channel();
        thread::scope(|scope| {
            let (to, from) = (sender.clone(), sender);
            let shared = &manifest;
            scope.spawn(move || drop(to.send(End::State(self.state(qemu, shared)))));
            scope.spawn(move || {
                let delivered = answers::deliver(input, qemu, shared);
                if delivered.is_err() {
                    // What nobody takes, nobody needs to send.
                    drop(qemu.shutdown(Shutdown::Both));
                }
                drop::<Result<_, _>>(Sender::send(&from, End::Answers(delivered)));
            });
            let watched = self.watch(machine, &ends, tell);
            if watched.is_err() {
                drop(qemu.shutdown(Shutdown::Both));
                self.wire.shut();
            }
            watched
        })
    }

    /// QEMU's stream as ours.
    fn state(
        &self,
        qemu: &UnixStream,
        manifest: &Arc<OnceLock<Manifest>>,
    ) -> Result<(), BridgeError> {
        let options = Options {
            producer: self.offer.contract.producer.clone(),
            // The guest stands still while it would be packed.
            compress: Compress::Nothing,
            reader: QemuReader::new().live(),
            contract: self.offer.contract.attributes.clone(),
            verdict: Some(self.verdict.clone()),
            manifest: Arc::clone(manifest),
            ahead: self.ahead.clone(),
            aborts: true,
            ..Options::default()
        };
        let out = BufWriter::with_capacity(BUFFER, self.wire.try_clone()?);
        let sent = to_vmstream(&mut &*qemu, out, &options);
        if sent.is_err() && !self.may_have_started() {
            drop(qemu.shutdown(Shutdown::Both));
        }
        sent?;
        Ok(())
    }

    /// Whether the destination's QEMU has all that it needs to start the guest. What fails then must not have it run here, too.
    fn may_have_started(&self) -> bool {
        self.ahead.as_ref().is_some_and(|over| over.load(Ordering::SeqCst))
    }

    /// Waits until the guest has gone, or cannot go.
    fn watch(
        &self,
        machine: &mut Machine,
        ends: &Receiver<End>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Summary, BridgeError> {
        let (mut state, mut answers) = (None, None);
        let mut over = None::<Instant>;
        loop {
            match ends.recv_timeout(LOOK) {
                Ok(End::State(ended)) => state = Some(ended),
                Ok(End::Answers(ended)) => answers = Some(ended),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
            let progress = machine.progress()?;
            let has_failed = |end: &Option<Result<(), BridgeError>>| matches!(end, Some(Err(_)));
            if progress.has_failed() || has_failed(&state) || has_failed(&answers) {
                let is_open = self.may_have_started() && answers.is_none();
                let patience = if is_open { END } else { Duration::from_secs(2) };
                let late = over.is_some_and(|over| over.elapsed() > patience);
                // What the other side and QEMU say of it comes last, and says most.
                if late || has_failed(&answers) && progress.has_failed() {
                    return Err(reason(progress, state, answers));
                }
                over.get_or_insert_with(Instant::now);
                continue;
            }
            tell(News::Progress(&progress));
            let is_whole = state.is_some() && answers.is_some();
            if progress.status == "completed" && is_whole {
                return Ok(Summary { progress });
            }
            if progress.status == "completed" || is_whole {
                let since = over.get_or_insert_with(Instant::now);
                if since.elapsed() > END {
                    return Err(reason(progress, state, answers));
                }
            }
            let is_bound = progress.is_postcopy() || self.may_have_started();
            if self.options.stop.load(Ordering::SeqCst) && !is_bound {
                return Err(BridgeError::Stopped);
            }
            let is_due = self.options.postcopy.is_some_and(|passes| progress.pass > passes);
            if is_due && progress.status == "active" {
                machine.start_postcopy()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vmstream::contract::{Attribute, Policy};
    use vmstream::message::Producer;
    use vmstream_qmp::Contract;

    use super::*;

    fn said(vcpus: u8, accepted: bool, findings: Vec<Finding>) -> Vec<String> {
        let contract = |vcpus: u8| {
            let attributes = vec![Attribute::new("machine", "vcpus", vcpus, Policy::Exact)];
            Contract { producer: Producer::default(), attributes }
        };
        let capabilities = BTreeSet::new();
        let offer = Offer { contract: contract(1), capabilities, only_asks: false };
        let verdict = Verdict { accepted, findings };
        let judged =
            judged(&offer, &Reply { contract: contract(vcpus), verdict, user_networks: None });
        judged.refusals.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn either_side_may_refuse() {
        assert_eq!(said(1, true, Vec::new()), [""; 0]);
        let differs = ["value-differs machine#vcpus: source has 1, destination has 2"];
        assert_eq!(said(2, false, Vec::new()), differs);
        assert_eq!(said(2, true, Vec::new()), differs);
        let finding = Finding::new("not-supported", "migration#postcopy-ram", "contract");
        assert_eq!(said(1, false, vec![finding.clone()]), [finding.to_string()]);
        assert_eq!(
            said(1, false, Vec::new()),
            ["refused; the destination does not say why"],
            "without a reason, too"
        );
    }
}
