//! A file that is not there yet.

use std::borrow::Cow;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use bandsox_proto::ByteString;
use bandsox_proto::v2::{Entry, EntryKind};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use crate::target::Place;
use crate::{Action, FileError, Owners, ReceiveError, Target, leftovers, stat};

/// What a file gets before it takes its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, 12 of them.
    pub mode: u32,
    /// Modification time, nanoseconds since 1970; now without it.
    pub mtime_ns: Option<i64>,
    /// Owner, if it is to be set.
    pub uid: Option<u32>,
    /// Group, if it is to be set.
    pub gid: Option<u32>,
}

impl Metadata {
    /// What `entry` asks for, as far as the receiver allows it.
    #[must_use]
    pub fn of(entry: &Entry, mode_mask: u32, owners: Owners) -> Self {
        let keep = |id: Option<u32>| id.filter(|_| owners == Owners::Keep);
        Self {
            mode: entry.mode & mode_mask & 0o7777,
            mtime_ns: Some(entry.mtime_ns),
            uid: keep(entry.uid),
            gid: keep(entry.gid),
        }
    }

    pub(crate) fn set(self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.uid.is_some() || self.gid.is_some() {
            let (uid, gid) = self.owners();
            rustix::fs::fchown(fd, uid, gid)?;
        }
        // After the owner, since changing that clears set-user-id. Looking costs less than setting.
        if stat::permissions(&rustix::fs::fstat(fd)?) != self.mode {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode))?;
        }
        if let Some(times) = self.times() {
            rustix::fs::futimens(fd, &times)?;
        }
        Ok(())
    }

    pub(crate) fn owners(self) -> (Option<Uid>, Option<Gid>) {
        (self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw))
    }

    pub(crate) fn times(self) -> Option<Timestamps> {
        let ns = self.mtime_ns?;
        let mtime = Timespec {
            tv_sec: ns.div_euclid(1_000_000_000),
            tv_nsec: ns.rem_euclid(1_000_000_000),
        };
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        Some(Timestamps { last_access: omitted, last_modification: mtime })
    }
}

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Under a temporary name.
    Aside,
    /// Under its own name, if nothing has that yet.
    InPlace,
}

/// A file that is being written, mostly under a temporary name beside its own. Dropped without [`Incoming::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Incoming<'a> {
    dir: BorrowedFd<'a>,
    temporary: Temporary<'a>,
    file: File,
    name: &'a [u8],
    path: ByteString,
}

impl<'a> Incoming<'a> {
    /// Begins a file at `target`.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::Exists`] if a directory is there; else what the operating system says.
    pub fn create(target: &'a Target) -> Result<Self, ReceiveError> {
        match &target.place {
            Place::Name { dir, name, .. } => {
                leftovers::occupy(dir.as_fd());
                let path = target.path().clone();
                Ok(Self::create_in(dir.as_fd(), name, path, Begin::Aside, 0o600)?)
            }
            Place::Dir(_) => Err(ReceiveError::Exists {
                path: target.path().clone(),
                found: EntryKind::Dir,
                wanted: EntryKind::File,
            }),
        }
    }

    /// Begins a file called `name` in `dir`, with the permissions of `mode`. `path` is for messages.
    pub(crate) fn create_in(
        dir: BorrowedFd<'a>,
        name: &'a [u8],
        path: ByteString,
        begin: Begin,
        mode: u32,
    ) -> Result<Self, FileError> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Set-user-id comes last, when the file is whole.
        let mode = Mode::from_raw_mode(mode & 0o777);
        let open = |name: &[u8]| rustix::fs::openat(dir, name, flags, mode);
        let made = match begin {
            Begin::InPlace => Temporary::named(dir, name, open),
            Begin::Aside => Err(Errno::EXIST),
        };
        let made = match made {
            Err(Errno::EXIST) => Temporary::make(dir, |name| open(name.as_bytes())),
            made => made,
        };
        let (temporary, fd) = made.map_err(FileError::on(Action::Create, &path))?;
        Ok(Self { dir, temporary, file: File::from(fd), name, path })
    }

    /// The file, to be written.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes `data` at `offset`, in bytes.
    ///
    /// # Errors
    ///
    /// What the operating system says, with the path that the file will have.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<(), FileError> {
        let written = self.file.write_all_at(data, offset);
        written.map_err(FileError::on(Action::Write, &self.path))
    }

    /// The path that it will have.
    #[must_use]
    pub fn path(&self) -> &ByteString {
        &self.path
    }

    /// Gives the file its metadata and its name, in place of whatever file had it.
    ///
    /// # Errors
    ///
    /// What the operating system says; the temporary file is then gone, the old one still there.
    pub fn commit(self, metadata: Metadata) -> Result<(), FileError> {
        let set = metadata.set(self.file.as_fd());
        set.map_err(FileError::on(Action::SetMetadata, &self.path))?;
        let renamed = self.temporary.rename(self.dir, self.name);
        renamed.map_err(FileError::on(Action::Replace, &self.path))
    }
}

/// A name that is not final yet, removed when dropped.
#[derive(Debug)]
pub(crate) struct Temporary<'a> {
    dir: BorrowedFd<'a>,
    name: Option<Cow<'a, [u8]>>,
}

impl<'a> Temporary<'a> {
    /// Makes something under a fresh name by `make`, which fails with `EEXIST` if the name is taken.
    pub(crate) fn make<T>(
        dir: BorrowedFd<'a>,
        mut make: impl FnMut(&str) -> Result<T, Errno>,
    ) -> Result<(Self, T), Errno> {
        loop {
            let mut random = [0_u8; 8];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
            let name = leftovers::name(u64::from_le_bytes(random));
            match make(&name) {
                Ok(made) => {
                    let name = Some(Cow::Owned(name.into_bytes()));
                    return Ok((Self { dir, name }, made));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes something under its final name by `make`, which fails with `EEXIST` if the name is taken.
    fn named<T>(
        dir: BorrowedFd<'a>,
        name: &'a [u8],
        make: impl FnOnce(&[u8]) -> Result<T, Errno>,
    ) -> Result<(Self, T), Errno> {
        let made = make(name)?;
        Ok((Self { dir, name: Some(Cow::Borrowed(name)) }, made))
    }

    /// The name, while it has one.
    pub(crate) fn name(&self) -> &[u8] {
        self.name.as_deref().unwrap_or_default()
    }

    /// Takes the final name, in place of whatever file or link had it.
    pub(crate) fn rename(mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        if self.name() != name {
            rustix::fs::renameat(self.dir, self.name(), dir, name)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // It is ours alone; if it cannot be removed, nobody can do better.
            rustix::fs::unlinkat(self.dir, &**name, AtFlags::empty()).ok();
        }
    }
}
