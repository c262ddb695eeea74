//! How does our vsock device compare with `vhost-device-vsock` 0.3.0?
//!
//! Two guests of the same kernel, program, CPU model and memory, one on either device; each device in a process of its
//! own, reached by `CONNECT` on a Unix socket. They take turns, each direction, and both ends only move bytes out of and
//! into memory: nothing is durable on either side. Throughput is in MB/s; processor time is that of the device's process
//! per GiB; kicks are calls of the guest kernel's `vp_notify` and interrupts those of `/proc/interrupts`, counted in a
//! turn of their own, because counting kicks slows the guest down. Ratios are ours by theirs, of medians.
//!
//! Left out: the guest's socket buffers have the kernel's default size, which is what bounds a stream to the guest.

mod device;
mod guest;

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use bandsox_e2e::Bed;

use self::device::Kind;
use self::guest::Guest;
use super::guest::seconds;
use super::report::{Bar, Report};
use super::statistics::median;

const MIB: usize = 128;
const WARM_UP_MIB: usize = 8;
const ROUNDS: usize = 7;
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Clone, Copy)]
enum Direction {
    ToGuest,
    FromGuest,
}

/// What the turns of one device in one direction came to.
#[derive(Default)]
struct Turns {
    megabytes_per_second: Vec<f64>,
    cpu_seconds_per_gib: Vec<f64>,
    notifications_per_mib: f64,
}

pub(super) fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let kernel = guest::kernel(bed)?;
    let guests =
        [Guest::boot(&kernel, Kind::Ours, 1003)?, Guest::boot(&kernel, Kind::Theirs, 1004)?];
    for (direction, name) in
        [(Direction::ToGuest, "host to guest"), (Direction::FromGuest, "guest to host")]
    {
        let mut turns = [Turns::default(), Turns::default()];
        for guest in &guests {
            stream(guest, direction, WARM_UP_MIB)?;
        }
        for _ in 0..ROUNDS {
            for (guest, turns) in guests.iter().zip(&mut turns) {
                measure(guest, direction, turns)?;
            }
        }
        for (guest, turns) in guests.iter().zip(&mut turns) {
            let before = guest.notifications()?;
            stream(guest, direction, MIB)?;
            turns.notifications_per_mib = (guest.notifications()? - before) / MIB as f64;
        }
        let [ours, theirs] = &turns;
        compare(report, name, ours, theirs);
    }
    Ok(())
}

fn measure(guest: &Guest, direction: Direction, turns: &mut Turns) -> Result<()> {
    let before = guest.device_cpu_seconds()?;
    let mut result = Ok(());
    let took = seconds(|| result = stream(guest, direction, MIB));
    result?;
    let cpu = guest.device_cpu_seconds()? - before;
    turns.megabytes_per_second.push(((MIB << 20) as f64) / 1e6 / took);
    turns.cpu_seconds_per_gib.push(cpu * 1024.0 / MIB as f64);
    Ok(())
}

/// Moves `mib` MiB one way, and returns when the last byte has arrived.
fn stream(guest: &Guest, direction: Direction, mib: usize) -> Result<()> {
    let bytes = mib << 20;
    let mut buffer = vec![0; BUFFER_BYTES];
    match direction {
        Direction::ToGuest => {
            let mut socket = guest.say(&format!("sink {bytes}"))?;
            for _ in 0..bytes / BUFFER_BYTES {
                socket.write_all(&buffer)?;
            }
            let mut count = [0; 8];
            socket.read_exact(&mut count)?;
            ensure!(u64::from_le_bytes(count) == bytes as u64, "the guest has read less");
        }
        Direction::FromGuest => {
            let mut socket = guest.say(&format!("source {bytes}"))?;
            let mut left = bytes;
            while left > 0 {
                let got = socket.read(&mut buffer)?;
                ensure!(got > 0, "the guest has sent less");
                left = left.saturating_sub(got);
            }
        }
    }
    Ok(())
}

fn compare(report: &mut Report, name: &str, ours: &Turns, theirs: &Turns) {
    let rate = |turns: &Turns| median(&turns.megabytes_per_second);
    let cpu = |turns: &Turns| median(&turns.cpu_seconds_per_gib);
    let told = |turns: &Turns| turns.notifications_per_mib;
    for (who, turns) in [("ours", ours), ("theirs", theirs)] {
        report.add(format!("{name}, {who}"), rate(turns), "MB/s", Bar::None);
        report.add(format!("{name}, {who}: processor time"), cpu(turns), "s/GiB", Bar::None);
        report.add(format!("{name}, {who}: kicks + interrupts"), told(turns), "/MiB", Bar::None);
    }
    let ratios = [
        ("throughput", rate(ours) / rate(theirs), Bar::AtLeast(1.1)),
        ("processor time", cpu(ours) / cpu(theirs), Bar::AtMost(0.6)),
        ("kicks + interrupts", told(ours) / told(theirs), Bar::AtMost(0.5)),
    ];
    for (what, ratio, bar) in ratios {
        report.add(format!("{name}: {what}, ours / theirs"), ratio, "ratio", bar);
    }
}
