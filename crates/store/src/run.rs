//! What a monitor writes down about a run: its beginning, its phases, its end.

use bandsox_spec::{Phase, StopReason};

use crate::file::Doing;
use crate::identity::ProcessIdentity;
use crate::list::write_end;
use crate::metadata::Metadata;
use crate::record::LockRecord;
use crate::store::{Store, UpdateError};
use crate::vm_lock::VmLock;

impl Store {
    /// Writes down that the VM whose lock is held is being started, and by which process.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if that cannot be written down.
    pub fn begin_run(
        &self,
        lock: &VmLock,
        monitor: &ProcessIdentity,
    ) -> Result<Metadata, UpdateError> {
        self.update(lock.id(), |metadata| {
            metadata.set_phase(Phase::Starting);
            metadata.set_stop_reason(None);
            metadata.set_process(Some(monitor));
            metadata.clone()
        })
    }

    /// Writes down the phase of the VM whose lock is held.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if that cannot be written down.
    pub fn set_phase(&self, lock: &VmLock, phase: Phase) -> Result<(), UpdateError> {
        self.update(lock.id(), |metadata| metadata.set_phase(phase))
    }

    /// Writes down why the run is over, and gives back the CID and port. The lock stays held: the
    /// monitor drops it when there is nothing left that anyone could mistake for a running VM.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if that cannot be written down. Whoever looks next writes it down then, as on
    /// a disk that was full: the lock's record needs no room.
    pub fn end_run(&self, lock: &VmLock, reason: &StopReason) -> Result<(), UpdateError> {
        let guard = self.guard()?;
        lock.write_record(&LockRecord::of_end(reason))
            .map_err(Doing::Write.to(&self.paths().lock(lock.id())))?;
        let written =
            self.update_guarded(&guard, lock.id(), |metadata| write_end(metadata, reason));
        self.rewrite_allocators(&guard);
        written
    }
}
