//! The storage directory, and reading and changing one VM's metadata.

use std::io;
use std::path::{Path, PathBuf};

use bandsox_spec::{VmId, VmName};

use crate::file::{self, Content, Doing, FileError};
use crate::guard::{GuardError, StoreGuard};
use crate::metadata::{Damage, Metadata};
use crate::paths::Paths;

/// A storage directory.
///
/// Holds nothing open: every method finds the directory as others left it. Any number of processes
/// may use the same one.
#[derive(Clone, Debug)]
pub struct Store {
    paths: Paths,
}

/// Whether a storage directory is made where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It is, with everything that belongs in it.
    Yes,
    /// It is not: that is an error.
    No,
}

impl Store {
    /// Opens the storage directory at `path`, of any length. What is in it is readable by its owner
    /// only; what older versions left open to others is closed. The mode of `path` itself, if it is
    /// there, is its owner's business: it may be a directory with another purpose besides.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it is not there, or cannot be made or entered.
    pub fn open(path: &Path, create: Create) -> Result<Self, OpenError> {
        let root = std::path::absolute(path).map_err(Doing::Read.to(path))?;
        let exists = is_directory(&root)?;
        let paths = Paths::new(root);
        let is_store = exists && is_directory(&paths.metadata_dir())?;
        if !is_store && create == Create::No {
            return Err(OpenError::Missing { path: paths.root().to_owned() });
        }
        for directory in paths.directories() {
            file::private_dir(&directory)?;
        }
        if is_store {
            for directory in [paths.metadata_dir(), paths.sockets(), paths.logs(), paths.locks()] {
                file::close_to_others(&directory);
            }
        }
        Ok(Self { paths })
    }

    /// Where everything lies.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Reads a VM's metadata as they are written down. What [`Store::list`] and [`Store::state`]
    /// say takes into account whether its monitor still lives.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if there is none, or they are damaged.
    pub fn read(&self, id: &VmId) -> Result<Metadata, ReadError> {
        let path = self.paths.metadata(id);
        match load(&path, id) {
            Ok(Some(metadata)) => Ok(metadata),
            Ok(None) => Err(ReadError::NotFound { id: id.clone() }),
            Err(source) => Err(ReadError::Damaged { path, source }),
        }
    }

    /// Changes a VM's metadata, alone among all processes. Writes nothing if nothing changed.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if they cannot be read, or not be written.
    pub fn update<T>(
        &self,
        id: &VmId,
        change: impl FnOnce(&mut Metadata) -> T,
    ) -> Result<T, UpdateError> {
        let guard = self.guard()?;
        self.update_guarded(&guard, id, change)
    }

    /// Gives a VM another name.
    ///
    /// # Errors
    ///
    /// [`RenameError`] if another VM has that name or id.
    pub fn rename(&self, id: &VmId, name: &VmName) -> Result<(), RenameError> {
        let guard = self.guard().map_err(UpdateError::from)?;
        self.name_is_free(name, Some(id))?;
        self.update_guarded(&guard, id, |metadata| metadata.set_name(name))?;
        Ok(())
    }

    /// Waits until this thread alone may change the store, and finishes what the last one to do so
    /// was interrupted at.
    pub(crate) fn guard(&self) -> Result<StoreGuard, GuardError> {
        let guard = StoreGuard::wait(&self.paths.store_lock())?;
        self.finish_removals(&guard);
        Ok(guard)
    }

    /// The lock alone.
    pub(crate) fn bare_guard(&self) -> Result<StoreGuard, GuardError> {
        StoreGuard::wait(&self.paths.store_lock())
    }

    pub(crate) fn update_guarded<T>(
        &self,
        guard: &StoreGuard,
        id: &VmId,
        change: impl FnOnce(&mut Metadata) -> T,
    ) -> Result<T, UpdateError> {
        let before = self.read(id)?;
        let mut after = before.clone();
        let result = change(&mut after);
        if after != before {
            let bytes = after.to_bytes();
            Metadata::parse(id, &bytes)
                .map_err(|source| UpdateError::WouldDamage { id: id.clone(), source })?;
            file::replace(guard, &self.paths.metadata(id), &bytes)?;
        }
        Ok(result)
    }

    /// Looks for another VM that a name would be mistaken for.
    pub(crate) fn name_is_free(
        &self,
        name: &VmName,
        except: Option<&VmId>,
    ) -> Result<(), NameError> {
        for id in self.metadata_ids()?.into_iter().filter(|id| Some(id) != except) {
            let taken = id.as_str() == name.as_str()
                || self.read(&id).is_ok_and(|other| other.name() == Some(name.as_str()));
            if taken {
                return Err(NameError::Taken { name: name.clone(), id });
            }
        }
        Ok(())
    }

    /// The ids after which files in the metadata directory are named, damaged or not.
    pub(crate) fn metadata_ids(&self) -> Result<Vec<VmId>, FileError> {
        Ok(self.metadata_stems()?.into_iter().filter_map(|stem| stem.parse().ok()).collect())
    }

    /// What precedes `.json` in the metadata directory's file names. Other files are none of ours:
    /// an editor's backups, temporary ones.
    pub(crate) fn metadata_stems(&self) -> Result<Vec<String>, FileError> {
        Ok(file::names_in(&self.paths.metadata_dir())?
            .into_iter()
            .filter_map(|name| {
                let name = name.to_string_lossy();
                let stem = name.strip_suffix(".json")?;
                (!stem.starts_with('.')).then(|| stem.to_owned())
            })
            .collect())
    }
}

/// Whether there is a directory, rather than nothing. One that we may not look at is neither.
fn is_directory(path: &Path) -> Result<bool, OpenError> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => Ok(true),
        Ok(_) => Err(OpenError::NotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Doing::Read.to(path)(error).into()),
    }
}

/// Reads metadata from a file; nothing if there is no file.
pub(crate) fn load(path: &Path, id: &VmId) -> Result<Option<Metadata>, Damage> {
    match file::read_bounded(path, Metadata::MAX_BYTES) {
        Ok(Content::Missing) => Ok(None),
        Ok(Content::NotRegular) => Err(Damage::NotRegular),
        Ok(Content::TooLarge) => Err(Damage::TooLarge),
        Ok(Content::Bytes(bytes)) => Metadata::parse(id, &bytes).map(Some),
        Err(FileError { source, doing: _, path: _ }) => Err(Damage::Unreadable { source }),
    }
}

/// Why a storage directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is not there.
    #[error("there is no storage directory at {}; `bandsox init` makes one", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// Where it should be.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a VM's metadata could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such VM.
    #[error("there is no VM {id}")]
    NotFound {
        /// What was asked for.
        id: VmId,
    },
    /// There is a file, and it makes no sense.
    #[error("the metadata file {} is damaged; repair it, or remove the VM with `rm`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
}

/// Why a VM's metadata could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// They could not be read to begin with.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The change would have made them unreadable. Nothing was written.
    #[error("the change would damage the metadata of the VM {id}")]
    WouldDamage {
        /// Which VM.
        id: VmId,
        /// What would be wrong with them.
        source: Damage,
    },
    /// They could not be written. The old ones are intact.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store could not be locked.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// Why a name cannot be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Another VM has it, as its name or as its id.
    #[error("the name {name} is taken by the VM {id}")]
    Taken {
        /// The name.
        name: VmName,
        /// Who has it.
        id: VmId,
    },
    /// The other VMs could not be looked at.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a VM could not be renamed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenameError {
    /// The name cannot be given.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The metadata could not be changed.
    #[error(transparent)]
    Update(#[from] UpdateError),
}
