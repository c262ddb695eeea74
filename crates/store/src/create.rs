//! Making a VM, so that whatever interrupts it leaves nothing that counts.
//!
//! ```text
//!   begin_create: take the new id's lock ─▶ caller makes the disk ─▶ commit: write the metadata
//! ```
//!
//! Until the metadata are there, the held lock keeps `cleanup` away; afterwards they do. Whoever is
//! killed in between leaves a disk and a free lock whose record says that a creation was under way.

use std::path::PathBuf;

use bandsox_spec::{VmId, VmName};

use crate::file::{self, Doing, FileError};
use crate::guard::{GuardError, StoreGuard};
use crate::metadata::{Metadata, NewVm, PathNotText};
use crate::record::{LockRecord, LockUse};
use crate::store::{NameError, Store};
use crate::vm_lock::VmLock;

impl Store {
    /// Reserves an id, for a VM of that name should it have one.
    ///
    /// # Errors
    ///
    /// [`CreateError`]; nothing stays behind.
    pub fn begin_create(&self, name: Option<&VmName>) -> Result<Creation<'_>, CreateError> {
        let guard = self.guard()?;
        if let Some(name) = name {
            self.name_is_free(name, None)?;
        }
        let id = self.unused_id()?;
        let path = self.paths().lock(&id);
        let lock = self.take_lock(&guard, &id)?.ok_or(CreateError::NoId)?;
        let record = LockRecord::ours(LockUse::Create, None);
        if let Err(source) = lock.write_record(&record) {
            file::delete(&path)?;
            return Err(Doing::Write.to(&path)(source).into());
        }
        Ok(Creation { store: self, lock: Some(lock), id })
    }

    /// Makes a VM that needs nothing but metadata.
    ///
    /// # Errors
    ///
    /// [`CreateError`]; nothing stays behind.
    pub fn create(&self, vm: NewVm) -> Result<Metadata, CreateError> {
        self.begin_create(vm.name.as_ref())?.commit(vm)
    }

    fn unused_id(&self) -> Result<VmId, CreateError> {
        for _ in 0..ATTEMPTS {
            let mut random = [0; 6];
            getrandom::fill(&mut random).map_err(|source| CreateError::NoRandom { source })?;
            let id = VmId::from_random(random);
            let paths = self.paths();
            let taken =
                [paths.metadata(&id), paths.lock(&id), paths.disk(&id), paths.tombstone(&id)]
                    .iter()
                    .any(|path| path.symlink_metadata().is_ok());
            if !taken {
                return Ok(id);
            }
        }
        Err(CreateError::NoId)
    }
}

/// A VM that is being made. Dropped before [`Creation::commit`], it takes what was made with it.
#[derive(Debug)]
pub struct Creation<'a> {
    store: &'a Store,
    /// There until the metadata are.
    lock: Option<VmLock>,
    id: VmId,
}

impl Creation<'_> {
    /// The id that the VM will have.
    #[must_use]
    pub fn id(&self) -> &VmId {
        &self.id
    }

    /// Where its writable disk is to be made.
    #[must_use]
    pub fn overlay_path(&self) -> PathBuf {
        self.store.paths().disk(&self.id)
    }

    /// Makes the disk durable, if one was made, and writes the metadata: from here on the VM exists.
    ///
    /// # Errors
    ///
    /// [`CreateError`], for instance if its name was taken meanwhile; nothing stays behind.
    pub fn commit(mut self, vm: NewVm) -> Result<Metadata, CreateError> {
        let guard = self.store.guard()?;
        if let Some(name) = &vm.name {
            self.store.name_is_free(name, None)?;
        }
        let overlay = self.overlay_path();
        let metadata = vm.into_metadata(&self.id, &overlay)?;
        let json = metadata.to_bytes();
        if json.len() > MOST_NEW_BYTES {
            return Err(CreateError::TooLarge { bytes: json.len() });
        }
        file::sync_if_there(&overlay)?;
        let path = self.store.paths().metadata(&self.id);
        file::replace(&guard, &path, &json)?;
        // Were the metadata lost later, nobody should think that they had never been.
        if let Some(lock) = self.lock.take()
            && let Err(error) = lock.write_record(&LockRecord::ours(LockUse::Run, None))
        {
            tracing::debug!(vm = %self.id, %error, "a lock record stays out of date");
        }
        Ok(metadata)
    }

    fn undo(&self, _: &StoreGuard) -> Result<(), FileError> {
        let paths = self.store.paths();
        file::delete(&paths.metadata(&self.id))?;
        file::delete_tree(&paths.disk(&self.id))?;
        file::delete_tree(&paths.socket_dir(&self.id))?;
        file::delete_tree(&paths.log_dir(&self.id))?;
        file::delete(&paths.lock(&self.id))?;
        Ok(())
    }
}

impl Drop for Creation<'_> {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        let undone = self
            .store
            .guard()
            .map_err(CreateError::from)
            .and_then(|guard| self.undo(&guard).map_err(CreateError::from));
        if let Err(error) = undone {
            tracing::warn!(vm = %self.id, %error, "an unfinished VM stays behind; `cleanup` removes it");
        }
    }
}

/// Forty-eight random bits are taken about never; a loop without end would be worse.
const ATTEMPTS: usize = 16;

/// Most bytes of new metadata, so that there is room for what is written down later. [`Metadata::MAX_BYTES`] is what can be read.
const MOST_NEW_BYTES: usize = 768 << 10;

/// Why a VM could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Its name cannot be given.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A path that has to be written down is no text.
    #[error(transparent)]
    Path(#[from] PathNotText),
    /// More than could be written down about it.
    #[error(
        "the VM's environment and the like take {bytes} bytes; at most {MOST_NEW_BYTES} can be kept"
    )]
    TooLarge {
        /// How much there is.
        bytes: usize,
    },
    /// The kernel has no random numbers.
    #[error("could not get random bytes for a VM id")]
    NoRandom {
        /// What it said.
        source: getrandom::Error,
    },
    /// Every id tried was taken.
    #[error("could not find an unused VM id")]
    NoId,
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store could not be locked.
    #[error(transparent)]
    Guard(#[from] GuardError),
}
