//! What the two say before anything moves.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use vmstream::contract::{Attribute, Comparison, Side, compare_between};
use vmstream::message::{Hello, Manifest, Note, Producer, Purpose, Verdict};
use vmstream::{Event, Map, Reader, Value, WriteError, Writer};
use vmstream_qmp::Contract;

use crate::error::BridgeError;
use crate::wire::Wire;

/// The note that makes a contract an offer.
const NOTE: &str = "bridge";
/// Capabilities of a source that its destination must have, too.
pub(crate) const SHARED: [&str; 5] =
    ["return-path", "postcopy-ram", "dirty-bitmaps", "switchover-ack", "validate-uuid"];
/// More capabilities than QEMU has.
const CAPABILITIES: usize = 256;

/// How long the other side may take for all of what it is told before anything moves.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says what was written.
pub(crate) fn say(wire: &Wire, written: Result<Vec<u8>, WriteError>) -> Result<(), BridgeError> {
    let said = wire.say(&written?, PATIENCE);
    Ok(said.map_err(|source| WriteError::Io { offset: 0, source })?)
}

/// What a sender has, and what it wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) contract: Contract,
    /// Capabilities that the destination must have, too.
    pub(crate) capabilities: BTreeSet<String>,
    /// Whether nothing is wanted but the verdict.
    pub(crate) only_asks: bool,
}

impl Offer {
    pub(crate) fn write(&self) -> Result<Vec<u8>, WriteError> {
        let mut writer = Writer::new(Vec::new(), &self.contract.hello())?;
        let capabilities = self.capabilities.iter().map(|name| Value::from(name.as_str()));
        let value = Map::new()
            .with("capabilities", Value::List(capabilities.collect()))
            .with("only_asks", self.only_asks);
        writer.note(&Note { name: NOTE.to_owned(), value: Value::Map(value) })?;
        writer.manifest(&self.contract.manifest())?;
        Ok(writer.finish()?.0)
    }

    pub(crate) fn read(input: &mut dyn Read) -> Result<Self, BridgeError> {
        let said = Said::read(input, Purpose::Contract)?;
        let no_note = BridgeError::Talk { what: "it does not say what it wants" };
        let broken = BridgeError::Talk { what: "what it wants makes no sense" };
        let (capabilities, only_asks) = wanted(&said.note.ok_or(no_note)?).ok_or(broken)?;
        Ok(Self { contract: said.contract, capabilities, only_asks })
    }
}

/// What a receiver says to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) contract: Contract,
    pub(crate) verdict: Verdict,
    /// Networks of the kind `user` that it has; not known of one that does not say so.
    pub(crate) user_networks: Option<u32>,
}

impl Reply {
    pub(crate) fn write(&self) -> Result<Vec<u8>, WriteError> {
        let hello = Hello { purpose: Purpose::Answer, ..self.contract.hello() };
        let mut writer = Writer::new(Vec::new(), &hello)?;
        if let Some(count) = self.user_networks {
            let value = Value::Map(Map::new().with("user_networks", count));
            writer.note(&Note { name: NOTE.to_owned(), value })?;
        }
        writer.manifest(&self.contract.manifest())?;
        writer.verdict(&self.verdict)?;
        Ok(writer.finish()?.0)
    }

    pub(crate) fn read(input: &mut dyn Read) -> Result<Self, BridgeError> {
        let said = Said::read(input, Purpose::Answer)?;
        let none = BridgeError::Talk { what: "it gives no verdict" };
        let count = said.note.as_ref().and_then(|note| note.at("user_networks")?.as_u64());
        let user_networks = count.and_then(|count| u32::try_from(count).ok());
        Ok(Self { contract: said.contract, verdict: said.verdict.ok_or(none)?, user_networks })
    }
}

/// What a stream without state says.
struct Said {
    contract: Contract,
    verdict: Option<Verdict>,
    note: Option<Value>,
}

impl Said {
    fn read(input: impl Read, purpose: Purpose) -> Result<Self, BridgeError> {
        let mut reader = Reader::new(input);
        let (mut manifest, mut verdict, mut note) = (None::<Manifest>, None, None);
        let mut producer = Producer::default();
        while let Some(event) = reader.next_event()? {
            match event {
                Event::Hello(hello) if hello.purpose == purpose => producer = hello.producer,
                Event::Hello(_) => {
                    return Err(BridgeError::Talk { what: "it begins with another purpose" });
                }
                Event::Manifest(given) => manifest = Some(given),
                Event::Verdict(given) => verdict = Some(given),
                Event::Note(given) if given.name == NOTE => note = Some(given.value),
                Event::Abort(finding) => {
                    return Err(BridgeError::GaveUp { finding: Box::new(finding) });
                }
                _ => {}
            }
        }
        let none = BridgeError::Talk { what: "it has no contract" };
        let attributes = manifest.ok_or(none)?.contract;
        Ok(Self { contract: Contract { producer, attributes }, verdict, note })
    }
}

fn wanted(value: &Value) -> Option<(BTreeSet<String>, bool)> {
    let names = value.at("capabilities")?.as_list()?;
    if names.len() > CAPABILITIES {
        return None;
    }
    let names = names.iter().map(|name| name.as_text().map(str::to_owned));
    Some((names.collect::<Option<_>>()?, value.at("only_asks")?.as_bool()?))
}

/// The source's contract against the destination's, but for capabilities, which a bridge sets as it needs them.
pub(crate) fn compare(source: &Contract, destination: &Contract) -> Comparison {
    let is_ours = |attribute: &Attribute| {
        attribute.path == "migration" && SHARED.contains(&attribute.attribute.as_str())
    };
    let attributes = |contract: &Contract| -> Vec<_> {
        let all = contract.attributes.iter();
        all.filter(|attribute| !is_ours(attribute)).cloned().collect()
    };
    let (source_has, destination_has) = (attributes(source), attributes(destination));
    compare_between(
        Side { producer: &source.producer, contract: &source_has },
        Side { producer: &destination.producer, contract: &destination_has },
    )
}

#[cfg(test)]
mod tests {
    use vmstream::contract::Policy;

    use super::*;

    fn contract(vcpus: u8) -> Contract {
        let attributes = vec![Attribute::new("machine", "vcpus", vcpus, Policy::Exact)];
        Contract { producer: Producer::default(), attributes }
    }

    fn offer(capabilities: usize) -> Offer {
        let capabilities = (0..capabilities).map(|number| number.to_string()).collect();
        Offer { contract: contract(1), capabilities, only_asks: false }
    }

    #[test]
    fn what_is_offered_and_answered_arrives() {
        let offer = offer(CAPABILITIES);
        let written = offer.write().expect("it can be written");
        assert_eq!(Offer::read(&mut &*written).expect("it can be read"), offer);
        let verdict = Comparison::default().verdict();
        let reply = Reply { contract: contract(2), verdict, user_networks: Some(1) };
        let written = reply.write().expect("it can be written");
        assert_eq!(Reply::read(&mut &*written).expect("it can be read"), reply);
    }

    #[test]
    fn an_offer_of_more_capabilities_than_there_are_is_refused_not_cut() {
        let written = offer(CAPABILITIES + 1).write().expect("it can be written");
        let error = Offer::read(&mut &*written).expect_err("too many");
        assert!(matches!(error, BridgeError::Talk { what: "what it wants makes no sense" }));
    }
}
