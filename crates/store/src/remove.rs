//! Deleting a VM and what it wrote.
//!
//! The first step renames the metadata file to a tombstone, and the last deletes that. Whatever
//! interrupts the steps in between, the VM is gone from the list, and the tombstone tells the next
//! command that the rest is to go too.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bandsox_spec::VmId;

use crate::file::{self, Doing, FileError};
use crate::guard::{GuardError, StoreGuard};
use crate::paths::TOMBSTONE_PREFIX;
use crate::store::Store;

/// What a removal freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Room on the disk. Unit: bytes.
    pub bytes: u64,
}

impl Store {
    /// Deletes a VM that does not run, also one with damaged metadata: metadata, writable disk,
    /// sockets, logs, lock and lease. Never an image, whatever the metadata name.
    ///
    /// # Errors
    ///
    /// [`RemoveError`] if it runs, there is none, or something cannot be deleted; what is left is
    /// deleted by the next command that changes the store.
    pub fn remove(&self, id: &VmId) -> Result<Removed, RemoveError> {
        let guard = self.guard()?;
        let path = self.paths().metadata(id);
        let metadata = self.read(id).ok();
        if self.state_of_lock(id, metadata.as_ref())?.is_live() {
            return Err(RemoveError::Running { id: id.clone() });
        }
        let tombstone = self.paths().tombstone(id);
        match fs::rename(&path, &tombstone) {
            Ok(()) => file::sync_parent(&path)?,
            // Somebody deleted the metadata of a VM that ran.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && self.paths().lock(id).symlink_metadata().is_ok() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RemoveError::NotFound { id: id.clone() });
            }
            Err(error) => return Err(Doing::Rename.to(&path)(error).into()),
        }
        let removed = self.finish_removal(&guard, id)?;
        self.rewrite_allocators(&guard);
        Ok(removed)
    }

    /// Deletes what a VM left whose tombstone is there, and the tombstone last.
    pub(crate) fn finish_removal(&self, _: &StoreGuard, id: &VmId) -> Result<Removed, FileError> {
        let mut removed = Removed::default();
        // Somebody put the metadata back meanwhile: then the VM is to stay.
        let restored = self.paths().metadata(id).symlink_metadata().is_ok();
        let belongings = if restored { Vec::new() } else { self.belongings(id)? };
        for path in belongings {
            let bytes = allocated_bytes(&path);
            if file::delete_tree(&path)? {
                removed.bytes = removed.bytes.saturating_add(bytes);
            }
        }
        file::delete_tree(&self.paths().tombstone(id))?;
        file::sync_parent(&self.paths().tombstone(id))?;
        Ok(removed)
    }

    /// How much room everything that is a VM's by its name takes.
    pub(crate) fn bytes_of(&self, id: &VmId) -> Result<u64, FileError> {
        let restored = self.paths().metadata(id).symlink_metadata().is_ok();
        let belongings = if restored { Vec::new() } else { self.belongings(id)? };
        Ok(belongings.iter().map(|path| allocated_bytes(path)).fold(0, u64::saturating_add))
    }

    /// Finishes the removals that were interrupted. What cannot be deleted now stays for another
    /// time; it is in nobody's way.
    pub(crate) fn finish_removals(&self, guard: &StoreGuard) {
        let finished = self.unfinished_removals().and_then(|ids| {
            ids.iter().try_for_each(|id| self.finish_removal(guard, id).map(|_| ()))
        });
        if let Err(error) = finished {
            tracing::warn!(%error, source = %error.source, "an interrupted removal stays unfinished");
        }
    }

    /// Removals that were interrupted.
    pub(crate) fn unfinished_removals(&self) -> Result<Vec<VmId>, FileError> {
        Ok(file::names_in(&self.paths().metadata_dir())?
            .into_iter()
            .filter_map(|name| name.to_str()?.strip_prefix(TOMBSTONE_PREFIX)?.parse().ok())
            .collect())
    }

    /// Everything but the metadata that is a VM's by its name. The lock goes last: as long as it is
    /// there, so is what it guards.
    fn belongings(&self, id: &VmId) -> Result<Vec<PathBuf>, FileError> {
        let paths = self.paths();
        let mut all = Vec::new();
        for directory in [paths.disks(), paths.sockets(), paths.logs()] {
            let names = file::names_in(&directory)?;
            let of_vm = names.iter().filter(|name| owner_of(name).as_ref() == Some(id));
            all.extend(of_vm.map(|name| directory.join(name)));
        }
        all.push(paths.lock(id));
        Ok(all)
    }
}

/// The VM that a file belongs to by its name: up to the first dot it is the id, which holds none.
pub(crate) fn owner_of(name: &OsStr) -> Option<VmId> {
    let name = name.to_str()?;
    name.split('.').next()?.parse().ok()
}

/// How much room a file, or a directory with all that is in it, takes. Follows no link.
pub(crate) fn allocated_bytes(path: &Path) -> u64 {
    let Ok(about) = fs::symlink_metadata(path) else { return 0 };
    let own = about.blocks().saturating_mul(512);
    if !about.is_dir() {
        return own;
    }
    let names = file::names_in(path).unwrap_or_default();
    names.iter().map(|name| allocated_bytes(&path.join(name))).fold(own, u64::saturating_add)
}

/// Why a VM could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// It runs.
    #[error("the VM {id} is running; stop it first, or force the removal")]
    Running {
        /// Which VM.
        id: VmId,
    },
    /// There is none.
    #[error("there is no VM {id}")]
    NotFound {
        /// What was asked for.
        id: VmId,
    },
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store could not be locked.
    #[error(transparent)]
    Guard(#[from] GuardError),
}
