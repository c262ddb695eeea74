//! The destination's side.

use std::io::{BufReader, BufWriter};
use std::path::PathBuf;
use std::time::Duration;

use vmstream::contract::Comparison;
use vmstream::message::{Hello, Purpose};
use vmstream::{Finding, Writer};
use vmstream_qmp::Contract;

use crate::address::Address;
use crate::arrival::{Host, carry, outcome};
use crate::door::{Caller, Door};
use crate::error::BridgeError;
use crate::listener::Listener;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::offer::{Offer, Reply, SHARED, compare, say};
use crate::watch::Watch;
use crate::wire::Wire;
use crate::{News, Outcome};

/// How long a sender may leave what QEMU answers where it is.
const ANSWERED: Duration = Duration::from_secs(60);
/// How long what a sender still sends is taken, so that he reads why it was in vain.
const TOLD: Duration = Duration::from_secs(1);
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
    let memory = Memory::new(machine.blocks()?);
    let networks = machine.user_networks()?;
    let host = Host { memory, networks, ahead: !options.from_records };
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
            user_networks: host.ahead.then_some(host.networks),
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
        let here = (&contract, &host);
        return take(&mut machine, here, wire, (input, &mut watch)).map(Outcome::Moved);
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

/// Takes the guest.
fn take(
    machine: &mut Machine,
    (contract, host): (&Contract, &Host),
    wire: Wire,
    (input, watch): (BufReader<Wire>, &mut Option<Watch>),
) -> Result<String, BridgeError> {
    wire.set_write_patience(Some(ANSWERED))?;
    let hello = Hello { purpose: Purpose::Answer, ..contract.hello() };
    let mut answers = Writer::new(BufWriter::new(wire.try_clone()?), &hello)?;
    answers.flush()?;
    let taken = || {
        let qemu = machine.migrate_incoming()?;
        let ends = carry(&qemu, host, &wire, (input, watch), &mut answers);
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
