//! What the two say before anything moves.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use vmstream::contract::{Attribute, Comparison, Side, compare_between};
use vmstream::message::{Hello, Manifest, Note, Producer, Purpose, Verdict};
use vmstream::{Event, Map, Reader, Value, Writer};
use vmstream_qmp::Contract;

use crate::error::BridgeError;

/// The note that makes a contract an offer.
const NOTE: &str = "bridge";
/// Capabilities of a source that its destination must have, too.
pub(crate) const SHARED: [&str; 5] =
    ["return-path", "postcopy-ram", "dirty-bitmaps", "switchover-ack", "validate-uuid"];
/// More capabilities than QEMU has.
const CAPABILITIES: usize = 256;

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
    pub(crate) fn write(&self, out: impl Write) -> Result<(), BridgeError> {
        let mut writer = Writer::new(out, &self.contract.hello())?;
        let capabilities = self.capabilities.iter().map(|name| Value::from(name.as_str()));
        let value = Map::new()
            .with("capabilities", Value::List(capabilities.collect()))
            .with("only_asks", self.only_asks);
        writer.note(&Note { name: NOTE.to_owned(), value: Value::Map(value) })?;
        writer.manifest(&self.contract.manifest())?;
        writer.finish()?;
        Ok(())
    }

    pub(crate) fn read(input: impl Read) -> Result<Self, BridgeError> {
        let said = Said::read(input, Purpose::Contract)?;
        let no_note = BridgeError::Talk { what: "it does not say what it wants" };
        let (capabilities, only_asks) = said.note.ok_or(no_note)?;
        Ok(Self { contract: said.contract, capabilities, only_asks })
    }
}

/// What a receiver says to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) contract: Contract,
    pub(crate) verdict: Verdict,
}

impl Reply {
    pub(crate) fn write(&self, out: impl Write) -> Result<(), BridgeError> {
        let hello = Hello { purpose: Purpose::Answer, ..self.contract.hello() };
        let mut writer = Writer::new(out, &hello)?;
        writer.manifest(&self.contract.manifest())?;
        writer.verdict(&self.verdict)?;
        writer.finish()?;
        Ok(())
    }

    pub(crate) fn read(input: impl Read) -> Result<Self, BridgeError> {
        let said = Said::read(input, Purpose::Answer)?;
        let none = BridgeError::Talk { what: "it gives no verdict" };
        Ok(Self { contract: said.contract, verdict: said.verdict.ok_or(none)? })
    }
}

/// What a stream without state says.
struct Said {
    contract: Contract,
    verdict: Option<Verdict>,
    note: Option<(BTreeSet<String>, bool)>,
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
                Event::Note(given) if given.name == NOTE => {
                    let broken = BridgeError::Talk { what: "what it wants makes no sense" };
                    note = Some(wanted(&given.value).ok_or(broken)?);
                }
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
    let names = value.at("capabilities")?.as_list()?.iter().take(CAPABILITIES);
    let names = names.map(|name| name.as_text().map(str::to_owned)).collect::<Option<_>>()?;
    Some((names, value.at("only_asks")?.as_bool()?))
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
