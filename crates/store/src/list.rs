//! Which VMs there are, and in what state they truly are.

use std::path::PathBuf;
use std::time::SystemTime;

use bandsox_spec::{Phase, StopReason, VmId};

use crate::file::{self, FileError};
use crate::guard::{GuardError, StoreGuard};
use crate::identity;
use crate::metadata::{Damage, Metadata};
use crate::record::LockUse;
use crate::store::{ReadError, Store, load};
use crate::vm_lock::{LockState, effective_phase};

/// One line of a list of VMs.
#[derive(Debug)]
pub enum Entry {
    /// A VM about which everything is known.
    Vm(Box<Metadata>, LiveState),
    /// A VM about which nothing is known but that there is something.
    Damaged(DamagedEntry),
}

/// A metadata file that cannot be understood.
#[derive(Debug)]
pub struct DamagedEntry {
    /// The VM after which the file is named, if it is named after one.
    pub id: Option<VmId>,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Damage,
    /// Whether a monitor runs that VM all the same.
    pub live: bool,
}

/// What is true of a VM now, whatever was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveState {
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether a monitor has it.
    pub live: bool,
    /// Why it does not run any more, if it did once.
    pub reason: Option<StopReason>,
}

impl Store {
    /// All VMs, the oldest first and damaged ones last.
    ///
    /// A VM that was running according to its metadata, but has no monitor any more, is settled on
    /// the way: its metadata then say why it ended, and its CID and port are free. Should writing
    /// that down fail, as on a full disk, the list is true all the same.
    ///
    /// # Errors
    ///
    /// [`FileError`] if a directory cannot be read. Trouble with one VM's files makes that one
    /// [`Entry::Damaged`].
    pub fn list(&self) -> Result<Vec<Entry>, FileError> {
        let mut entries = Vec::new();
        let mut damaged = Vec::new();
        for stem in self.metadata_stems()? {
            match self.entry(&stem) {
                Some(Entry::Damaged(entry)) => damaged.push(Entry::Damaged(entry)),
                Some(Entry::Vm(metadata, state)) => entries.push((metadata, state)),
                None => {}
            }
        }
        for id in self.orphaned_monitors()? {
            let path = self.paths().metadata(&id);
            let error = Damage::Missing;
            damaged.push(Entry::Damaged(DamagedEntry { id: Some(id), path, error, live: true }));
        }
        entries.sort_by_cached_key(|(metadata, _)| {
            (metadata.created_at().unwrap_or(SystemTime::UNIX_EPOCH), metadata.id().clone())
        });
        let healthy = entries.into_iter().map(|(metadata, state)| Entry::Vm(metadata, state));
        Ok(healthy.chain(damaged).collect())
    }

    /// One VM, settled as in [`Store::list`].
    ///
    /// # Errors
    ///
    /// [`StateError`] if there is no such VM, or its metadata are damaged.
    pub fn state(&self, id: &VmId) -> Result<(Metadata, LiveState), StateError> {
        Ok(self.settled_view(self.read(id)?)?)
    }

    fn entry(&self, stem: &str) -> Option<Entry> {
        let id: VmId = match stem.parse() {
            Ok(id) => id,
            Err(source) => {
                let path = self.paths().metadata_dir().join(format!("{stem}.json"));
                let error = Damage::BadName { source };
                return Some(Entry::Damaged(DamagedEntry { id: None, path, error, live: false }));
            }
        };
        let path = self.paths().metadata(&id);
        let error = match load(&path, &id) {
            Ok(Some(metadata)) => match self.settled_view(metadata) {
                Ok((metadata, state)) => return Some(Entry::Vm(Box::new(metadata), state)),
                Err(source) => Damage::LockUnreadable { source },
            },
            // Removed since the directory was read.
            Ok(None) => return None,
            Err(error) => error,
        };
        let live = self.state_of_lock(&id, None).is_ok_and(LockState::is_live);
        Some(Entry::Damaged(DamagedEntry { id: Some(id), path, error, live }))
    }

    fn settled_view(&self, metadata: Metadata) -> Result<(Metadata, LiveState), FileError> {
        let live = self.state_of_lock(metadata.id(), Some(&metadata))?.is_live();
        if live || !metadata.phase().has_monitor() {
            return Ok(view(metadata, live));
        }
        match self.settle_under_guard(&metadata) {
            Ok(Some(settled)) => Ok(settled),
            Ok(None) => Ok(view(metadata, live)),
            Err(error) => {
                tracing::warn!(vm = %metadata.id(), %error, "could not write down that a VM ended");
                Ok(view(self.ended(metadata), live))
            }
        }
    }

    /// Settles a VM that looked dead, unless it no longer does; nothing if it was removed meanwhile.
    fn settle_under_guard(
        &self,
        looked: &Metadata,
    ) -> Result<Option<(Metadata, LiveState)>, GuardError> {
        let guard = self.guard()?;
        let Ok(metadata) = self.read(looked.id()) else { return Ok(None) };
        if self.state_of_lock(metadata.id(), Some(&metadata))?.is_live() {
            return Ok(Some(view(metadata, true)));
        }
        let settled = self.settle(&guard, metadata)?;
        self.rewrite_allocators(&guard);
        Ok(Some(view(settled, false)))
    }

    /// Writes down the end of a VM that has no monitor. Nobody can give it one meanwhile: locks are
    /// taken under the guard only. Leaves a VM alone whose metadata tell of no run.
    pub(crate) fn settle(
        &self,
        guard: &StoreGuard,
        metadata: Metadata,
    ) -> Result<Metadata, FileError> {
        if !metadata.phase().has_monitor() {
            self.clear_record(guard, metadata.id())?;
            return Ok(metadata);
        }
        let metadata = self.ended(metadata);
        file::replace(guard, &self.paths().metadata(metadata.id()), &metadata.to_bytes())?;
        if let Some(reason) = metadata.stop_reason() {
            tracing::info!(vm = %metadata.id(), %reason, "a VM had ended; its CID and port are free");
        }
        self.clear_record(guard, metadata.id())?;
        Ok(metadata)
    }

    /// The metadata of a VM whose monitor is gone, as they are to be.
    pub(crate) fn ended(&self, mut metadata: Metadata) -> Metadata {
        let recorded = self.lock_record(metadata.id()).ok().flatten();
        let reason = recorded.and_then(|record| record.ended).unwrap_or_else(|| {
            let now = identity::boot_id().ok();
            match (metadata.boot_id(), now.as_deref()) {
                (Some(then), Some(now)) if then != now => StopReason::HostRebooted,
                (Some(_), _) | (None, _) => StopReason::MonitorDied,
            }
        });
        write_end(&mut metadata, &reason);
        metadata
    }

    /// VMs that run although their metadata file is gone.
    pub(crate) fn orphaned_monitors(&self) -> Result<Vec<VmId>, FileError> {
        let mut orphaned = Vec::new();
        for id in self.locked_ids()? {
            let path = self.paths().metadata(&id);
            if path.symlink_metadata().is_ok() || self.state_of_lock(&id, None)? != LockState::Held
            {
                continue;
            }
            let purpose = self.lock_record(&id)?.map(|record| record.purpose);
            // Asked again: a creation writes the metadata before it lets go of the lock.
            if purpose != Some(LockUse::Create) && path.symlink_metadata().is_err() {
                orphaned.push(id);
            }
        }
        Ok(orphaned)
    }

    /// The ids after which there are lock files.
    pub(crate) fn locked_ids(&self) -> Result<Vec<VmId>, FileError> {
        Ok(file::names_in(&self.paths().locks())?
            .into_iter()
            .filter_map(|name| name.to_str()?.strip_suffix(".lock")?.parse().ok())
            .collect())
    }
}

fn view(metadata: Metadata, live: bool) -> (Metadata, LiveState) {
    let phase = effective_phase(metadata.phase(), live);
    let reason = if phase.has_monitor() { None } else { metadata.stop_reason() };
    (metadata, LiveState { phase, live, reason })
}

/// Writes into metadata that a run is over, and why.
pub(crate) fn write_end(metadata: &mut Metadata, reason: &StopReason) {
    metadata.set_phase(metadata.phase().on(reason.event()));
    metadata.set_stop_reason(Some(reason));
    metadata.set_process(None);
    metadata.set_lease(None);
}

/// Why the state of a VM could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Its metadata could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its lock could not be asked about.
    #[error(transparent)]
    File(#[from] FileError),
}
