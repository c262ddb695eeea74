//! What a running QEMU's guest can see, read through QMP.
//!
//! A QEMU with `-incoming defer` answers as one that runs does, so source and destination can be compared before a
//! single page is sent. What is read is what the guest could notice: machine type, vCPUs, CPU features, memory, and
//! each device with its place on its bus and its properties. What only the host knows of (paths, sockets, backends,
//! cache modes, I/O threads) is left out: it may differ.
//!
//! Source of the properties: QEMU's own lists (`device-list-properties`), so a device that nobody here has heard of is
//! read like any other. `rules` says which of them are the host's business.

#![forbid(unsafe_code)]

mod cpu;
mod device;
mod disk;
mod machine;
mod part;
mod qom;
mod rules;

pub use qom::ReadError;

use bandsox_qmp::Client;
use vmstream::contract::Attribute;
use vmstream::message::{Hello, Manifest, Producer, Purpose};

/// Bytes of a page of guest memory.
const PAGE: u64 = 4096;

/// What a guest can see of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Whose contract it is: QEMU, and its version.
    pub producer: Producer,
    /// All that a destination is compared by.
    pub attributes: Vec<Attribute>,
}

impl Contract {
    /// Begin of a stream that holds the contract alone.
    #[must_use]
    pub fn hello(&self) -> Hello {
        Hello::new(&self.producer.name, &self.producer.version, Purpose::Contract)
    }

    /// The manifest of such a stream.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        Manifest { page_size: PAGE, contract: self.attributes.clone(), ..Manifest::default() }
    }
}

/// Reads the contract of the QEMU behind `client`. Changes nothing in it; takes about a second.
///
/// # Errors
///
/// [`ReadError`], when QEMU is gone or answers what no QEMU answers.
pub fn read(client: &mut Client) -> Result<Contract, ReadError> {
    let producer = Producer { name: "QEMU".to_owned(), version: client.version().to_string() };
    let mut qom = qom::Qom::new(client);
    let nodes = qom.walk("/machine")?;
    let mut parts = vec![machine::machine(&mut qom)?, machine::memory(&mut qom, &nodes)?];
    parts.extend(cpu::cpus(&mut qom, &nodes)?);
    let disks = disk::Disks::read(&mut qom)?;
    parts.extend(device::devices(&mut qom, &nodes, &disks)?);
    parts.push(machine::migration(&mut qom)?);
    let attributes = parts.into_iter().flat_map(part::Part::into_attributes).collect();
    Ok(Contract { producer, attributes })
}
