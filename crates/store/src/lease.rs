//! CIDs and ports: leased at start, given back at stop or death.
//!
//! # Who has what
//!
//! The truth is spread over the VMs: a lease is written into the record of the lock that its monitor
//! holds, and into its metadata. The allocator files are a cache for people to read. Whoever wants a
//! lease looks at every VM, under the store's lock:
//!
//! | VM                    | what it is taken to have                                               |
//! |-----------------------|------------------------------------------------------------------------|
//! | lives                 | what its lock record says; without one, what its metadata say and what |
//! |                       | the allocator files say                                                |
//! | dead                  | nothing; what it had is reclaimed on the way                           |
//! | dead, with damaged    | as if it lived, and what the damaged text seems to name                |
//! | metadata              |                                                                        |
//!
//! Hence resetting, emptying or deleting the allocator files at any time changes nothing, and neither
//! does editing a running VM's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bandsox_spec::{Phase, VmId};
use serde::{Deserialize, Serialize};

use crate::allocator::Allocators;
use crate::file::{self, Doing, FileError};
use crate::guard::{GuardError, StoreGuard};
use crate::metadata::{Metadata, VsockConfig, VsockRequired};
use crate::record::{LockRecord, LockUse};
use crate::store::{ReadError, Store, UpdateError};
use crate::vm_lock::{LockState, VmLock, state_without_file};

/// Context ids that a guest can have. 0, 1 and 2 are the hypervisor, the loopback and the host
/// (vsock(7)); the upper end is BandSox's own.
pub const CIDS: RangeInclusive<u32> = 3..=254;

/// vsock ports that a guest's agent can be given.
pub const PORTS: RangeInclusive<u32> = 9000..=9999;

/// What a VM has while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The guest's context id; in [`CIDS`].
    pub cid: u32,
    /// The vsock port that its agent listens on; in [`PORTS`].
    pub port: u32,
}

impl Store {
    /// Leases the lowest free CID and the lowest free port to the VM whose lock is held. Asked again
    /// during the same run, it answers the same.
    ///
    /// # Errors
    ///
    /// [`LeaseError`]; the VM then has nothing, and nobody else lacks anything.
    pub fn lease(&self, lock: &VmLock) -> Result<Lease, LeaseError> {
        let guard = self.guard()?;
        let metadata = self.read(lock.id())?;
        let path = self.paths().lock(lock.id());
        let record = lock.record().map_err(Doing::Read.to(&path))?;
        let recorded = record.and_then(|record| record.lease);
        match (metadata.vsock(), recorded) {
            (VsockConfig::Absent, _) => return Err(VsockRequired.into()),
            (VsockConfig::Disabled, _) => return Err(LeaseError::Disabled),
            (VsockConfig::Enabled { cid: Some(cid), port: Some(port) }, Some(lease))
                if lease == (Lease { cid, port }) =>
            {
                return Ok(lease);
            }
            (VsockConfig::Enabled { .. }, _) => {}
        }
        let mut allocators = Allocators::load(self.paths());
        let mut held = self.survey(&guard, &allocators, Some(lock.id()))?;
        let lease = Lease {
            cid: lowest_free(&CIDS, held.cids()).ok_or(LeaseError::NoCids)?,
            port: lowest_free(&PORTS, held.ports()).ok_or(LeaseError::NoPorts)?,
        };
        self.write_lease(&guard, lock, lease)?;
        held.add(lock.id(), lease);
        allocators.store_or_warn(&guard, self.paths(), &held);
        Ok(lease)
    }

    /// Gives back what the VM whose lock is held has leased, if anything.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if that cannot be written down. What is not written down is reclaimed when the
    /// lock is free.
    pub fn release(&self, lock: &VmLock) -> Result<(), UpdateError> {
        let guard = self.guard()?;
        self.release_guarded(&guard, lock)?;
        self.update_guarded(&guard, lock.id(), |metadata| metadata.set_lease(None))?;
        self.rewrite_allocators(&guard);
        Ok(())
    }

    pub(crate) fn release_guarded(&self, _: &StoreGuard, lock: &VmLock) -> Result<(), FileError> {
        lock.write_record(&LockRecord::ours(LockUse::Run, None))
            .map_err(Doing::Write.to(&self.paths().lock(lock.id())))
    }

    /// Brings the allocator files up to date. They are a cache: that they cannot be read or written
    /// is worth a warning, not a failure.
    pub(crate) fn rewrite_allocators(&self, guard: &StoreGuard) {
        let mut allocators = Allocators::load(self.paths());
        match self.survey(guard, &allocators, None) {
            Ok(held) => allocators.store_or_warn(guard, self.paths(), &held),
            Err(error) => tracing::warn!(%error, "could not see which CIDs and ports are taken"),
        }
    }

    /// The record first: from then on the lease is known whatever becomes of the metadata.
    fn write_lease(
        &self,
        guard: &StoreGuard,
        lock: &VmLock,
        lease: Lease,
    ) -> Result<(), LeaseError> {
        let path = self.paths().lock(lock.id());
        lock.write_record(&LockRecord::ours(LockUse::Run, Some(lease)))
            .map_err(Doing::Write.to(&path))?;
        let written = self.update_guarded(guard, lock.id(), |metadata| {
            metadata.set_lease(Some(lease));
            if !metadata.phase().has_monitor() {
                metadata.set_phase(Phase::Starting);
            }
        });
        if let Err(error) = written {
            self.release_guarded(guard, lock)?;
            return Err(error.into());
        }
        Ok(())
    }

    /// What all VMs but one have, reclaiming on the way what dead ones had. Trouble with one VM's
    /// files is never another's: what cannot be asked about counts as taken.
    pub(crate) fn survey(
        &self,
        guard: &StoreGuard,
        allocators: &Allocators,
        except: Option<&VmId>,
    ) -> Result<Held, FileError> {
        let mut held = Held::default();
        let mut ids: BTreeSet<VmId> = self.metadata_ids()?.into_iter().collect();
        ids.extend(self.locked_ids()?);
        for id in ids.iter().filter(|id| Some(*id) != except) {
            self.survey_one(guard, allocators, id, &mut held);
        }
        Ok(held)
    }

    fn survey_one(&self, guard: &StoreGuard, allocators: &Allocators, id: &VmId, held: &mut Held) {
        let (state, record) = match self.look_at_lock(id) {
            Ok(Some((state, record))) => (Some(state), record),
            Ok(None) => (None, None),
            Err(error) => {
                tracing::warn!(vm = %id, %error, source = %error.source, "taken to be running");
                (Some(LockState::Held), None)
            }
        };
        if let (Some(LockState::Held), Some(record)) = (state, &record) {
            record.lease.into_iter().for_each(|lease| held.add(id, lease));
            return;
        }
        let found = self.read(id);
        let state = state.unwrap_or_else(|| state_without_file(found.as_ref().ok()));
        match found {
            Ok(metadata) if !state.is_live() => {
                if let Err(error) = self.settle(guard, metadata) {
                    let source = error.source.to_string();
                    tracing::warn!(vm = %id, %error, source, "the end of a VM is not written down");
                }
                return;
            }
            Ok(metadata) => held.add_metadata(id, &metadata),
            Err(ReadError::Damaged { path, .. }) => {
                held.add_text(id, &file::beginning(&path, Metadata::MAX_BYTES));
            }
            Err(ReadError::NotFound { .. }) if !state.is_live() => return,
            Err(ReadError::NotFound { .. }) => {}
        }
        match record {
            Some(record) => record.lease.into_iter().for_each(|lease| held.add(id, lease)),
            None => allocators.recorded(id).for_each(|taken| held.insert(id, taken)),
        }
    }
}

/// One number that a VM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    Cid(u32),
    Port(u32),
}

/// Which VM has which numbers.
#[derive(Debug, Default)]
pub(crate) struct Held {
    by_vm: BTreeMap<VmId, BTreeSet<Taken>>,
}

impl Held {
    fn insert(&mut self, id: &VmId, taken: Taken) {
        let known = match taken {
            Taken::Cid(cid) => CIDS.contains(&cid),
            Taken::Port(port) => PORTS.contains(&port),
        };
        if known {
            self.by_vm.entry(id.clone()).or_default().insert(taken);
        }
    }

    pub(crate) fn add(&mut self, id: &VmId, Lease { cid, port }: Lease) {
        self.insert(id, Taken::Cid(cid));
        self.insert(id, Taken::Port(port));
    }

    fn add_metadata(&mut self, id: &VmId, metadata: &Metadata) {
        if let VsockConfig::Enabled { cid, port } = metadata.vsock() {
            cid.into_iter().for_each(|cid| self.insert(id, Taken::Cid(cid)));
            port.into_iter().for_each(|port| self.insert(id, Taken::Port(port)));
        }
    }

    /// Takes any number after something like `"cid":` or `"port":` for taken.
    fn add_text(&mut self, id: &VmId, text: &str) {
        numbers_after(text, "cid").for_each(|cid| self.insert(id, Taken::Cid(cid)));
        numbers_after(text, "port").for_each(|port| self.insert(id, Taken::Port(port)));
    }

    pub(crate) fn cids(&self) -> BTreeSet<u32> {
        self.all()
            .filter_map(|(_, taken)| match taken {
                Taken::Cid(cid) => Some(cid),
                Taken::Port(_) => None,
            })
            .collect()
    }

    pub(crate) fn ports(&self) -> BTreeSet<u32> {
        self.all()
            .filter_map(|(_, taken)| match taken {
                Taken::Port(port) => Some(port),
                Taken::Cid(_) => None,
            })
            .collect()
    }

    /// Every number, with who has it.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&VmId, Taken)> {
        self.by_vm.iter().flat_map(|(id, taken)| taken.iter().map(move |taken| (id, *taken)))
    }
}

/// The lowest number of a range that is not taken.
pub(crate) fn lowest_free(range: &RangeInclusive<u32>, taken: BTreeSet<u32>) -> Option<u32> {
    range.clone().find(|number| !taken.contains(number))
}

/// The numbers that follow a quoted key, a colon and any space.
fn numbers_after<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = u32> + 'a {
    text.split('"').zip(text.split('"').skip(1)).filter_map(move |(name, rest)| {
        let digits = rest.trim_start().strip_prefix(':')?.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if name == key { digits.get(..end)?.parse().ok() } else { None }
    })
}

/// Why a VM got no CID and port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// As many VMs run as there are CIDs. The message is the migration guide's.
    #[error("No available CIDs")]
    NoCids,
    /// All ports are taken. The message is the migration guide's.
    #[error("No available ports")]
    NoPorts,
    /// The VM was created before vsock was there.
    #[error(transparent)]
    Required(#[from] VsockRequired),
    /// The VM's metadata turn vsock off, so that there is nothing to lease.
    #[error("vsock is turned off for this VM by \"vsock_config\" in its metadata")]
    Disabled,
    /// The VM's metadata could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The lease could not be written down.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// Another VM's files made trouble.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store could not be locked.
    #[error(transparent)]
    Guard(#[from] GuardError),
}
