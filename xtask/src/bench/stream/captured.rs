//! Streams of a guest that counts, as QEMU wrote them and as ours.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use vmstream::message::{DeviceRecord, Manifest};
use vmstream::{Event, Reader, Schema};
use vmstream_transcode::{Options, to_vmstream};

use super::bed::{Machine, Qemu, Vm, directory};

/// Memory of the guest, MiB.
pub(super) const MEBIBYTES: u64 = 256;

/// A stream of one guest: `pc` with five virtio devices.
pub(super) struct Captured {
    /// QEMU's version.
    pub(super) version: &'static str,
    /// As QEMU wrote it.
    pub(super) theirs: PathBuf,
    /// As ours.
    pub(super) ours: PathBuf,
}

impl Captured {
    /// Boots the guest, and takes its stream while it runs.
    pub(super) fn new(qemu: &Qemu, dir: &Path) -> Result<Self> {
        let version = qemu.version;
        let theirs = dir.join(format!("{version}.mig"));
        let ours = dir.join(format!("{version}.stream"));
        let machine = directory();
        let mut guest = Vm::boot_with(qemu, Machine::Pc, machine.path(), MEBIBYTES);
        guest.ticks_past(1);
        guest.migrate(&format!("exec:cat >{}", theirs.display()));
        drop(guest);
        let out = BufWriter::with_capacity(1 << 20, File::create(&ours)?);
        to_vmstream(&mut File::open(&theirs)?, out, &Options::default())?;
        Ok(Self { version, theirs, ours })
    }

    pub(super) fn reader(&self) -> Result<Reader<BufReader<File>>> {
        Ok(Reader::new(BufReader::with_capacity(1 << 20, File::open(&self.ours)?)))
    }

    pub(super) fn bytes(&self) -> Result<u64> {
        Ok(fs::metadata(&self.ours)?.len())
    }

    /// All but pages.
    pub(super) fn machine(&self) -> Result<State> {
        let mut reader = self.reader()?;
        let (mut schemas, mut manifest, mut records) = (Vec::new(), None, Vec::new());
        while let Some(event) = reader.next_event()? {
            if let Event::Schema(id, schema) = event {
                schemas.push((id, schema));
            } else if let Event::Manifest(read) = event {
                manifest = Some(read);
            } else if let Event::Devices(read) = event {
                records.extend(read);
            }
        }
        Ok(State { schemas, manifest: manifest.context("a stream has a manifest")?, records })
    }
}

/// What a machine is and the state of its devices.
pub(super) struct State {
    pub(super) schemas: Vec<(u32, Arc<Schema>)>,
    pub(super) manifest: Manifest,
    pub(super) records: Vec<DeviceRecord>,
}
