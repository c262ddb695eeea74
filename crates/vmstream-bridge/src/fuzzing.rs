//! Doors for `fuzz/`: what either side reads of the other before it knows whether to believe it.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::OnceLock;

use vmstream::Writer;
use vmstream::contract::{Attribute, Policy};
use vmstream::message::{Hello, Manifest, Producer, Purpose, Region};
use vmstream_qemu::{Answer, write_answer};
use vmstream_qmp::Contract;

use crate::answers;
use crate::error::BridgeError;
use crate::memory::{Block, Memory};
use crate::offer::{Offer, Reply, compare};

/// Reads an offer as a receiver does, and answers it. Returns the answer.
///
/// # Errors
///
/// Why it is no offer, or why there is no answer to it.
///
/// # Panics
///
/// If what was read does not come back from what is written of it.
pub fn offer(mut bytes: &[u8]) -> Result<Vec<u8>, BridgeError> {
    let offer = Offer::read(&mut bytes)?;
    let written = offer.write().expect("what was read can be written");
    assert_eq!(Offer::read(&mut &*written).expect("and read again"), offer);
    let contract = contract();
    let verdict = compare(&offer.contract, &contract).verdict();
    Ok(Reply { contract, verdict, user_networks: None }.write()?)
}

/// Reads a reply as a sender does.
///
/// # Errors
///
/// Why it is no reply.
///
/// # Panics
///
/// If what was read does not come back from what is written of it.
pub fn reply(mut bytes: &[u8]) -> Result<(), BridgeError> {
    let reply = Reply::read(&mut bytes)?;
    let written = reply.write().expect("what was read can be written");
    assert_eq!(Reply::read(&mut &*written).expect("and read again"), reply);
    Ok(())
}

/// Reads answers as a sender does whose guest has [`regions`]. Returns what its QEMU was told, and how it ended.
pub fn deliver(input: &mut dyn Read) -> (Vec<u8>, Result<(), BridgeError>) {
    let mut told = Vec::new();
    let ended = answers::deliver(input, &mut told, &OnceLock::from(manifest()));
    (told, ended)
}

/// Names and bytes of the regions of memory that there are.
#[must_use]
pub fn regions() -> [(&'static str, u64); 2] {
    [("pc.ram", 1 << 20), ("vga", 4096)]
}

/// An offer, a reply and answers, as both sides write them.
///
/// # Errors
///
/// None: all of it is valid.
pub fn samples() -> Result<[Vec<u8>; 3], BridgeError> {
    let capabilities = BTreeSet::from(["return-path".to_owned()]);
    let offer = Offer { contract: contract(), capabilities, only_asks: false };
    let verdict = compare(&offer.contract, &contract()).verdict();
    let reply = Reply { contract: contract(), verdict, user_networks: Some(1) };
    Ok([offer.write()?, reply.write()?, said()?])
}

/// All that a QEMU may say, as a receiver says it.
fn said() -> Result<Vec<u8>, BridgeError> {
    let blocks = regions().map(|(name, bytes)| Block { name: name.to_owned(), bytes });
    let memory = Memory::new(blocks.to_vec());
    // Its own regions have a place.
    memory.learn(&manifest()).ok();
    let pages = |block: Option<&str>| {
        let block = block.map(Into::into);
        Answer::RequestPages { block, offset: 0, bytes: 4096 }
    };
    let mut qemu = Vec::new();
    for answer in [
        Answer::Pong(1),
        pages(Some("vga")),
        pages(None),
        Answer::ReceivedBitmap { block: "vga".into(), bits: vec![1] },
        Answer::ResumeAck(1),
        Answer::SwitchoverAck,
        Answer::Shut(0),
    ] {
        write_answer(&mut qemu, &answer).map_err(vmstream_transcode::Error::from)?;
    }
    let mut writer = Writer::new(Vec::new(), &Hello::new("toy", "1", Purpose::Answer))?;
    answers::forward(&*qemu, &mut writer, &memory)?;
    Ok(writer.finish()?.0)
}

fn contract() -> Contract {
    let attributes = vec![
        Attribute::new("machine", "vcpus", 1_u8, Policy::Exact).hint("-smp"),
        Attribute::new("machine", "memory", 1_u32 << 20, Policy::Exact).follows("machine#vcpus"),
    ];
    Contract { producer: Producer::default(), attributes }
}

fn manifest() -> Manifest {
    let region = |(name, bytes): (&str, u64)| {
        let (name, kind) = (name.to_owned(), "ram".to_owned());
        Region { name, kind, bytes, gpa: None }
    };
    Manifest { page_size: 4096, memory: regions().map(region).to_vec(), ..Manifest::default() }
}
