//! The source's side.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vmstream::Finding;
use vmstream::contract::Comparison;

use crate::address::Address;
use crate::ending::{as_before, settle};
use crate::error::BridgeError;
use crate::job::Job;
use crate::machine::{Machine, Progress};
use crate::offer::{Offer, Reply, SHARED, compare, say};
use crate::wire::Wire;
use crate::{News, Outcome};

/// How long a destination may think about the contract.
const HANDSHAKE: Duration = Duration::from_secs(60);
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

#[cfg(test)]
mod tests {
    use vmstream::contract::{Attribute, Policy};
    use vmstream::message::{Producer, Verdict};
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
