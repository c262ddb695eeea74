//! The lock that says that a VM lives.
//!
//! ```text
//!   start (CLI)                              monitor
//!   try_lock_vm ──▶ VmLock                      │
//!        └── spawn_holding(command) ── fd 0 ──▶ adopt_lock_from_stdin ──▶ VmLock
//!            (closes its own copy)                begin_run, lease … end_run
//! ```
//!
//! The lock belongs to an open file description, which a child inherits: there is no moment between
//! the start and the monitor's first instruction at which nobody holds it. Of two starts at the same
//! time one gets the lock, and the other learns at once, before any process is made, that the VM is
//! running already. It ends with the last process that has it, however that ended. It is never
//! unlocked by a call, since that would unlock it for every holder.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bandsox_spec::{Phase, VmId};

use crate::file::{Doing, FileError};
use crate::guard::{GuardError, StoreGuard};
use crate::identity::ProcessIdentity;
use crate::metadata::Metadata;
use crate::ofd;
use crate::record::{LockRecord, LockUse};
use crate::store::{ReadError, Store};

/// Holding it is what makes a VM live.
///
/// Invariant: `file` is `locks/<id>.lock`, and its open file description has the lock.
#[derive(Debug)]
pub struct VmLock {
    id: VmId,
    file: File,
}

impl VmLock {
    /// Which VM.
    #[must_use]
    pub fn id(&self) -> &VmId {
        &self.id
    }

    /// Starts a process that holds the lock from its first instruction on, as its standard input,
    /// and lets go of it here. The process is to call [`Store::adopt_lock_from_stdin`].
    ///
    /// # Errors
    ///
    /// If the process cannot be started; the lock is then given up.
    pub fn spawn_holding(self, command: &mut Command) -> io::Result<Child> {
        let child = command.stdin(Stdio::from(OwnedFd::from(self.file))).spawn();
        // A `Command` keeps what it was given: without this the lock would live on in here.
        command.stdin(Stdio::null());
        child
    }

    pub(crate) fn record(&self) -> Result<Option<LockRecord>, io::Error> {
        LockRecord::read(&self.file)
    }

    pub(crate) fn write_record(&self, record: &LockRecord) -> Result<(), io::Error> {
        record.write(&self.file)
    }
}

impl AsFd for VmLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Store {
    /// Takes the lock of a VM that is to run; `None` if somebody has it, that is, if it runs.
    ///
    /// Settles first what a dead monitor left: afterwards the metadata tell of no run. Hand the lock
    /// to the monitor with [`VmLock::spawn_holding`].
    ///
    /// # Errors
    ///
    /// [`LockError`] if there is no such VM, or a file cannot be locked or settled.
    pub fn try_lock_vm(&self, id: &VmId) -> Result<Option<VmLock>, LockError> {
        let guard = self.guard()?;
        let metadata = match self.read(id) {
            Ok(metadata) => Some(metadata),
            Err(ReadError::Damaged { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if self.state_of_lock(id, metadata.as_ref())?.is_live() {
            return Ok(None);
        }
        let lease = match metadata {
            Some(metadata) => {
                self.settle(&guard, metadata).map_err(LockError::Settle)?;
                None
            }
            // What damaged metadata may refer to stays as it is.
            None => self.lock_record(id)?.and_then(|record| record.lease),
        };
        let Some(lock) = self.take_lock(&guard, id)? else { return Ok(None) };
        lock.write_record(&LockRecord::ours(LockUse::Run, lease))
            .map_err(Doing::Write.to(&self.paths().lock(id)))?;
        Ok(Some(lock))
    }

    /// Takes over the lock that whoever started this process gave it as standard input, and puts
    /// `/dev/null` there, so that no child of ours inherits the lock.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] if standard input is something else.
    pub fn adopt_lock_from_stdin(&self, id: &VmId) -> Result<VmLock, AdoptError> {
        let path = self.paths().lock(id);
        let fd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), LOWEST_OWN_FD)
            .map_err(|errno| Doing::Lock.to(&path)(errno.into()))?;
        let lock = self.adopt_lock(id, fd)?;
        let null = File::open("/dev/null").map_err(Doing::Read.to(Path::new("/dev/null")))?;
        rustix::stdio::dup2_stdin(&null)
            .map_err(|errno| Doing::Read.to(Path::new("/dev/null"))(errno.into()))?;
        Ok(lock)
    }

    /// Takes over a lock that another process handed us as a descriptor.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] if the descriptor is of another file, or does not have the lock.
    pub fn adopt_lock(&self, id: &VmId, fd: OwnedFd) -> Result<VmLock, AdoptError> {
        let path = self.paths().lock(id);
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
            .map_err(|errno| Doing::Lock.to(&path)(errno.into()))?;
        let file = File::from(fd);
        let given = file.metadata().map_err(Doing::Lock.to(&path))?;
        let named = std::fs::symlink_metadata(&path).map_err(Doing::Lock.to(&path))?;
        if (given.dev(), given.ino()) != (named.dev(), named.ino()) {
            return Err(AdoptError::OtherFile { path });
        }
        if !ofd::try_lock(file.as_fd()).map_err(Doing::Lock.to(&path))? {
            return Err(AdoptError::NotHeld { path });
        }
        let lock = VmLock { id: id.clone(), file };
        let lease = lock.record().map_err(Doing::Read.to(&path))?.and_then(|old| old.lease);
        lock.write_record(&LockRecord::ours(LockUse::Run, lease))
            .map_err(Doing::Write.to(&path))?;
        Ok(lock)
    }

    /// Whether a VM lives: somebody holds its lock, or, should a person have deleted the lock file,
    /// the process that the metadata identify beyond doubt still runs.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the lock cannot be asked about.
    pub fn is_live(&self, id: &VmId) -> Result<bool, FileError> {
        let metadata = self.read(id).ok();
        Ok(self.state_of_lock(id, metadata.as_ref())?.is_live())
    }

    /// Who holds a VM's lock, as far as the holder said.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the lock cannot be asked about.
    pub fn holder(&self, id: &VmId) -> Result<Option<ProcessIdentity>, FileError> {
        match self.state_of_lock(id, None)? {
            LockState::Held => Ok(self.lock_record(id)?.and_then(|record| record.holder)),
            LockState::Free | LockState::Lost => Ok(None),
        }
    }

    /// Asks about a lock without taking it.
    pub(crate) fn state_of_lock(
        &self,
        id: &VmId,
        metadata: Option<&Metadata>,
    ) -> Result<LockState, FileError> {
        let path = self.paths().lock(id);
        match open_existing(&path)? {
            Some(file) => state_of(&file).map_err(Doing::Lock.to(&path)),
            None => Ok(state_without_file(metadata)),
        }
    }

    /// What a lock's holder, or last holder, wrote.
    pub(crate) fn lock_record(&self, id: &VmId) -> Result<Option<LockRecord>, FileError> {
        let path = self.paths().lock(id);
        match open_existing(&path)? {
            Some(file) => LockRecord::read(&file).map_err(Doing::Read.to(&path)),
            None => Ok(None),
        }
    }

    /// Both at once; nothing if there is no lock file.
    pub(crate) fn look_at_lock(
        &self,
        id: &VmId,
    ) -> Result<Option<(LockState, Option<LockRecord>)>, FileError> {
        let path = self.paths().lock(id);
        let Some(file) = open_existing(&path)? else { return Ok(None) };
        let state = state_of(&file).map_err(Doing::Lock.to(&path))?;
        let record = LockRecord::read(&file).map_err(Doing::Read.to(&path))?;
        Ok(Some((state, record)))
    }

    /// Takes a lock, making its file if need be. Only under the guard: a lock file is deleted under
    /// it too, so that nobody locks one that has no name any more.
    pub(crate) fn take_lock(&self, _: &StoreGuard, id: &VmId) -> Result<Option<VmLock>, FileError> {
        let path = self.paths().lock(id);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(Doing::Lock.to(&path))?;
        let taken = ofd::try_lock(file.as_fd()).map_err(Doing::Lock.to(&path))?;
        Ok(taken.then(|| VmLock { id: id.clone(), file }))
    }

    /// Takes the lease out of the record of a lock that nobody holds. The lock is not taken for it,
    /// lest somebody who looks meanwhile think that the VM runs; the guard keeps others from it.
    pub(crate) fn clear_record(&self, _: &StoreGuard, id: &VmId) -> Result<(), FileError> {
        let path = self.paths().lock(id);
        let Some(record) =
            self.lock_record(id)?.filter(|record| record.lease.is_some() || record.ended.is_some())
        else {
            return Ok(());
        };
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(Doing::Write.to(&path))?;
        LockRecord { lease: None, ended: None, ..record }
            .write(&file)
            .map_err(Doing::Write.to(&path))
    }
}

/// What asking about a VM's lock found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// Somebody has it.
    Held,
    /// Nobody has it.
    Free,
    /// Its file is gone, but the process that held it still runs.
    Lost,
}

impl LockState {
    pub(crate) fn is_live(self) -> bool {
        match self {
            Self::Held | Self::Lost => true,
            Self::Free => false,
        }
    }
}

/// Whether somebody has the lock on this file.
fn state_of(file: &File) -> io::Result<LockState> {
    Ok(if ofd::is_locked(file.as_fd())? { LockState::Held } else { LockState::Free })
}

/// What to think of a VM whose lock file is not there.
pub(crate) fn state_without_file(metadata: Option<&Metadata>) -> LockState {
    let runs = metadata
        .filter(|metadata| metadata.phase().has_monitor())
        .and_then(Metadata::process)
        .is_some_and(|process| process.is_alive());
    if runs { LockState::Lost } else { LockState::Free }
}

fn open_existing(path: &Path) -> Result<Option<File>, FileError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Doing::Lock.to(path)(error)),
    }
}

/// Above standard input, output and error.
const LOWEST_OWN_FD: i32 = 3;

/// Why a VM could not be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// There is no such VM, or its files cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What its last monitor left could not be settled.
    #[error("could not settle what the VM's last monitor left")]
    Settle(#[source] FileError),
    /// The lock file made trouble.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store could not be locked.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// Why a lock could not be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The descriptor is of something else.
    #[error("the descriptor is not of {}", path.display())]
    OtherFile {
        /// The lock file that it should be of.
        path: PathBuf,
    },
    /// Another description has the lock.
    #[error("the descriptor does not hold the lock on {}", path.display())]
    NotHeld {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file made trouble.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The phase to show for a VM, given what was written down and whether it lives.
pub(crate) fn effective_phase(written: Phase, live: bool) -> Phase {
    match (written.has_monitor(), live) {
        // Locked, and its monitor has not come to write anything yet.
        (false, true) => Phase::Starting,
        (true, true) | (false, false) | (true, false) => written,
    }
}
