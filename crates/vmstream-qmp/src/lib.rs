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
mod model;
mod qom;
mod rules;

pub use model::{Attribute, Component, Contract, Policy};
pub use qom::ReadError;

use bandsox_qmp::Client;

/// Reads the contract of the QEMU behind `client`. Changes nothing in it; takes about a second.
///
/// # Errors
///
/// [`ReadError`], when QEMU is gone or answers what no QEMU answers.
pub fn read(client: &mut Client) -> Result<Contract, ReadError> {
    let version = client.version();
    let mut qom = qom::Qom::new(client);
    let nodes = qom.walk("/machine")?;
    let mut components = vec![machine::machine(&mut qom)?, machine::memory(&mut qom, &nodes)?];
    components.extend(cpu::cpus(&mut qom, &nodes)?);
    let disks = disk::Disks::read(&mut qom)?;
    components.extend(device::devices(&mut qom, &nodes, &disks)?);
    components.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Contract { producer: format!("QEMU {version}"), components })
}
