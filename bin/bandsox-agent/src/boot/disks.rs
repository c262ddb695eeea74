//! Which block device is which.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a disk may take to appear after its driver was loaded.
const APPEARS: Duration = Duration::from_secs(10);

/// A disk that is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no disk with the serial number {serial:?}, and no {fallback}")]
pub(super) struct NoDisk {
    serial: String,
    fallback: String,
}

/// The device node of the disk with this serial number; else `fallback`, should that exist.
pub(super) fn find(serial: &str, fallback: &str) -> Result<PathBuf, NoDisk> {
    let until = Instant::now() + APPEARS;
    loop {
        if let Some(disk) = by_serial(serial) {
            return Ok(disk);
        }
        // By name only if no disk has a serial number: the order of names depends on who was probed first.
        if Path::new(fallback).exists() && !any_serial() {
            return Ok(PathBuf::from(fallback));
        }
        if Instant::now() >= until {
            return Err(NoDisk { serial: serial.to_owned(), fallback: fallback.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn by_serial(wanted: &str) -> Option<PathBuf> {
    serials()
        .find(|(_, serial)| serial == wanted)
        .map(|(disk, _)| disk)
        .filter(|disk| disk.exists())
}

fn any_serial() -> bool {
    serials().any(|(_, serial)| !serial.is_empty())
}

fn serials() -> impl Iterator<Item = (PathBuf, String)> {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    disks.filter_map(|disk| {
        let serial = fs::read_to_string(disk.path().join("serial")).ok()?;
        Some((Path::new("/dev").join(disk.file_name()), serial.trim_end().to_owned()))
    })
}
