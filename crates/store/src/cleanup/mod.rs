//! Reclaiming what dead VMs held and what interrupted commands left.
//!
//! What may go, and what keeps it:
//!
//! | what                                         | goes if                                      |
//! |----------------------------------------------|----------------------------------------------|
//! | the rest of an interrupted removal           | always                                       |
//! | the rest of a write that was interrupted     | of metadata, always: it is done under the    |
//! |                                              | store's lock; of an image or a template, if  |
//! |                                              | nothing was written to it for an hour        |
//! | a run that nobody ended, its CID and port    | its lock is free                             |
//! | sockets of a known VM                        | its lock is free                             |
//! | disk, sockets, logs, lock of an unknown VM   | its lock is free, no metadata name them, and |
//! |                                              | no metadata file is damaged, unless the lock |
//! |                                              | record shows an interrupted creation         |
//!
//! Images and snapshots are nobody's to reclaim here.

mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bandsox_spec::{StopReason, VmId};

use crate::file::{self, FileError};
use crate::guard::{GuardError, StoreGuard};
use crate::metadata::Metadata;
use crate::record::LockUse;
use crate::remove::{allocated_bytes, owner_of};
use crate::store::Store;
use crate::usage::BasesInUse;

pub use report::{CleanupReport, Failed, Kept, Mode, Reclaimed, What, Why};

impl Store {
    /// Reclaims what dead VMs held and what interrupted commands left. Touches nothing of a VM that
    /// lives, or is being made, and nothing that a damaged metadata file may refer to.
    ///
    /// # Errors
    ///
    /// [`CleanupError`] if the store cannot be looked at. What cannot be deleted is in the report.
    pub fn cleanup(&self, mode: Mode) -> Result<CleanupReport, CleanupError> {
        let guard = self.bare_guard()?;
        let mut pass = Pass::new(self, &guard, mode)?;
        pass.removals()?;
        pass.temporaries()?;
        pass.runs();
        pass.files()?;
        if mode == Mode::Reclaim {
            self.rewrite_allocators(&guard);
        }
        Ok(pass.report)
    }
}

/// One look at everything.
struct Pass<'a> {
    store: &'a Store,
    guard: &'a StoreGuard,
    mode: Mode,
    /// VMs with metadata, damaged or not.
    known: BTreeSet<VmId>,
    /// VMs whose removal was interrupted.
    going: BTreeSet<VmId>,
    /// Paths that metadata name.
    referenced: BTreeSet<PathBuf>,
    /// Metadata files that may refer to anything.
    damaged: Vec<PathBuf>,
    report: CleanupReport,
}

impl<'a> Pass<'a> {
    fn new(store: &'a Store, guard: &'a StoreGuard, mode: Mode) -> Result<Self, FileError> {
        let report = CleanupReport { dry_run: mode == Mode::DryRun, ..CleanupReport::default() };
        let BasesInUse { vms, damaged } = store.bases_in_use()?;
        let named_after = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<VmId>().ok();
        let readable = vms.iter().map(|user| user.id.clone());
        Ok(Self {
            store,
            guard,
            mode,
            known: readable.chain(damaged.iter().filter_map(named_after)).collect(),
            going: BTreeSet::new(),
            referenced: vms.into_iter().flat_map(|user| user.paths).collect(),
            damaged,
            report,
        })
    }

    fn removals(&mut self) -> Result<(), FileError> {
        for id in self.store.unfinished_removals()? {
            let path = self.store.paths().tombstone(&id);
            let removed = match self.mode {
                Mode::DryRun => self.store.bytes_of(&id),
                Mode::Reclaim => {
                    self.store.finish_removal(self.guard, &id).map(|removed| removed.bytes)
                }
            };
            let item = (What::Removal, Some(id.clone()), Why::RemovalInterrupted);
            self.going.insert(id);
            self.note(item, path, removed);
        }
        Ok(())
    }

    fn temporaries(&mut self) -> Result<(), FileError> {
        let paths = self.store.paths();
        for directory in [paths.metadata_dir(), paths.root().to_owned()] {
            for name in file::names_in(&directory)? {
                let text = name.to_string_lossy();
                if text.starts_with('.') && text.ends_with(".json.tmp") {
                    let item = (What::Temporary, None, Why::WriteInterrupted);
                    self.reclaim(item, directory.join(&name));
                }
            }
        }
        for directory in [paths.disks(), paths.images()] {
            for name in file::names_in(&directory)? {
                let path = directory.join(&name);
                if name.to_string_lossy().starts_with(".tmp-") && is_old(&path) {
                    self.reclaim((What::Temporary, None, Why::WriteInterrupted), path);
                }
            }
        }
        Ok(())
    }

    fn runs(&mut self) {
        for id in self.known.clone() {
            let Ok(metadata) = self.store.read(&id) else { continue };
            let path = self.store.paths().metadata(&id);
            if !metadata.phase().has_monitor() || self.may_live(&id, Some(&metadata)) {
                continue;
            }
            let ended = self.store.ended(metadata.clone());
            let reason = ended.stop_reason().unwrap_or(StopReason::MonitorDied);
            let settled = match self.mode {
                Mode::DryRun => Ok(0),
                Mode::Reclaim => self.store.settle(self.guard, metadata).map(|_| 0),
            };
            self.note((What::Run, Some(id), Why::Ended(reason)), path, settled);
        }
    }

    /// The lock files last: they say whose creation was interrupted.
    fn files(&mut self) -> Result<(), FileError> {
        let paths = self.store.paths().clone();
        for (directory, what) in [
            (paths.disks(), What::Disk),
            (paths.sockets(), What::Sockets),
            (paths.logs(), What::Logs),
            (paths.locks(), What::Lock),
        ] {
            for name in file::names_in(&directory)? {
                if let Some(id) = owner_of(&name) {
                    self.file(what, &id, directory.join(&name));
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, what: What, id: &VmId, path: PathBuf) {
        if self.going.contains(id) && !self.known.contains(id) {
            return;
        }
        let metadata = self.store.read(id).ok();
        if self.may_live(id, metadata.as_ref()) {
            return;
        }
        if self.known.contains(id) {
            if metadata.is_some() && what == What::Sockets {
                self.reclaim((what, Some(id.clone()), Why::NotRunning), path);
            }
            return;
        }
        if self.referenced.contains(&path) {
            return;
        }
        let record = self.store.lock_record(id).ok().flatten();
        let purpose = record.map(|record| record.purpose);
        if purpose == Some(LockUse::Create) {
            self.reclaim((what, Some(id.clone()), Why::CreationInterrupted), path);
        } else if self.damaged.is_empty() {
            self.reclaim((what, Some(id.clone()), Why::NoSuchVm), path);
        } else {
            self.report.kept.push(Kept { path, damaged: self.damaged.clone() });
        }
    }

    /// Whether a VM lives, or its lock cannot be asked about: that is reported, once.
    fn may_live(&mut self, id: &VmId, metadata: Option<&Metadata>) -> bool {
        match self.store.state_of_lock(id, metadata) {
            Ok(state) => state.is_live(),
            Err(error) => {
                let known = self.report.failed.iter().any(|failed| failed.path == error.path);
                if !known {
                    self.report.failed.push(failure(&error.path, &error));
                }
                true
            }
        }
    }

    fn reclaim(&mut self, item: (What, Option<VmId>, Why), path: PathBuf) {
        let bytes = allocated_bytes(&path);
        let done = match self.mode {
            Mode::DryRun => Ok(bytes),
            Mode::Reclaim => file::delete_tree(&path).map(|_| bytes),
        };
        self.note(item, path, done);
    }

    fn note(
        &mut self,
        (what, vm, why): (What, Option<VmId>, Why),
        path: PathBuf,
        done: Result<u64, FileError>,
    ) {
        match done {
            Ok(bytes) => self.report.reclaimed.push(Reclaimed { what, vm, path, why, bytes }),
            Err(error) => self.report.failed.push(failure(&path, &error)),
        }
    }
}

/// Whether nothing was written to a file for so long that nobody will. A clock that was set back
/// makes a file look younger, and it stays for another time.
fn is_old(path: &Path) -> bool {
    path.symlink_metadata()
        .and_then(|about| about.modified())
        .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED_AFTER))
}

/// Whoever makes an image writes to it all the time.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

fn failure(path: &Path, error: &FileError) -> Failed {
    Failed { path: path.to_owned(), error: format!("{error}: {}", error.source) }
}

/// Why nothing could be cleaned up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CleanupError {
    /// A directory could not be read, or a lock not be asked about.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store could not be locked.
    #[error(transparent)]
    Guard(#[from] GuardError),
}
