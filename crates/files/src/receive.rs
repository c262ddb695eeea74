//! Receiving a file or a tree.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{Done, Entry, EntryKind, FrameReader, Status, Trailer, Transfer};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use xxhash_rust::xxh64::Xxh64;

use crate::incoming::{Begin, Temporary};
use crate::target::Place;
use crate::{
    Action, BUFFER, FileError, Incoming, MAX_DEPTH, Metadata, Owners, ReceiveError, Target, Watch,
    leftovers, stat,
};

/// What a receiver puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most entries.
    pub entries: u64,
    /// Most bytes of data over all files.
    pub bytes: u64,
}

impl Limits {
    /// No limit: for a sender that is trusted with the disk.
    pub const NONE: Self = Self { entries: u64::MAX, bytes: u64::MAX };
}

/// How to receive.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveOptions {
    /// Whether a directory is welcome; without, exactly one file comes.
    pub tree: bool,
    /// Whether owner and group are set.
    pub owners: Owners,
    /// Permission bits that are taken over: `0o7777` in the guest, `0o777` on a host, where a guest must not be able to
    /// make set-user-id programs.
    pub mode_mask: u32,
    /// Which files are written under a temporary name.
    pub staging: Staging,
    /// How much may come.
    pub limits: Limits,
}

/// Which files are written under a temporary name, to take their own when they are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staging {
    /// All, so that even a receiver that is killed leaves no part of a file under its name.
    Always,
    /// All but those in directories that the transfer itself made. In these there is nothing to replace, and nobody but
    /// their owner enters them before they are complete; a file that fails is removed. A temporary name and the change
    /// of names cost a small file half as much again.
    Replacing,
}

/// Reads entries until Done and puts them in place at `target`. Returns the receiver's own totals, to be said in its
/// Done frame.
///
/// Each file appears whole or not at all; a tree that fails half-way leaves what was complete by then. What is beneath
/// the target is never reached through a symbolic link.
///
/// # Errors
///
/// See [`ReceiveError`]. Unless the channel failed, the sender may still be sending.
pub fn receive<R: Read>(
    frames: &mut FrameReader<R>,
    target: &Target,
    options: ReceiveOptions,
    watch: Watch<'_>,
) -> Result<Done, ReceiveError> {
    let mut receiver = Receiver {
        frames,
        target,
        options,
        watch,
        buffer: Vec::new(),
        levels: Vec::new(),
        done: Done::default(),
        begun: false,
    };
    let result = receiver.run();
    // A tree that failed still gets the modes of the directories that were made.
    let closed = receiver.close_levels(0);
    result?;
    closed?;
    Ok(receiver.done)
}

struct Receiver<'a, R> {
    frames: &'a mut FrameReader<R>,
    target: &'a Target,
    options: ReceiveOptions,
    watch: Watch<'a>,
    buffer: Vec<u8>,
    /// The directories from the target down to where the stream is.
    levels: Vec<Level>,
    done: Done,
    /// The target itself has come.
    begun: bool,
}

struct Level {
    fd: OwnedFd,
    /// Relative to the target; empty for the target itself.
    relative: Vec<u8>,
    /// Set once all that is in it has come, for that changes its times.
    metadata: Option<Metadata>,
    /// How the files in it begin.
    begin: Begin,
}

impl<R: Read> Receiver<'_, R> {
    fn run(&mut self) -> Result<(), ReceiveError> {
        loop {
            let frame = self.frames.read()?.ok_or(ReceiveError::Ended)?;
            match Transfer::decode(frame)? {
                Transfer::Entry(entry) => self.take(&entry)?,
                Transfer::Done(done) if self.begun => {
                    self.done.skipped = done.skipped;
                    self.done.skipped_names = done.skipped_names;
                    return Ok(());
                }
                Transfer::Done(_) => return Err(ReceiveError::Ended),
                Transfer::Error(fault) => return Err(ReceiveError::Sender(fault)),
            }
        }
    }

    fn take(&mut self, entry: &Entry) -> Result<(), ReceiveError> {
        entry.check()?;
        self.count(entry)?;
        let metadata = Metadata::of(entry, self.options.mode_mask, self.options.owners);
        if entry.path.is_empty() {
            return self.take_target(entry, metadata);
        }
        let path = self.shown(&entry.path);
        let (parent, name) = split(entry.path.as_bytes());
        let order = || ReceiveError::Order { path: entry.path.clone() };
        let depth = self.levels.iter().rposition(|level| level.relative == parent);
        self.close_levels(depth.ok_or_else(order)?.saturating_add(1))?;
        // Taken out, so that `self` is free for reading while the directory is borrowed.
        let level = self.levels.pop().ok_or_else(order)?;
        let result = self.take_child(&level, name, entry, metadata, path);
        self.levels.push(level);
        if let Some(below) = result? {
            if self.levels.len() >= MAX_DEPTH {
                return Err(ReceiveError::Limit { what: "levels", limit: MAX_DEPTH as u64 });
            }
            self.levels.push(below);
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry) -> Result<(), ReceiveError> {
        let Limits { entries, bytes } = self.options.limits;
        let is_file = entry.kind == EntryKind::File;
        let counter = if is_file { &mut self.done.files } else { &mut self.done.others };
        *counter = counter.saturating_add(1);
        if self.done.files.saturating_add(self.done.others) > entries {
            return Err(ReceiveError::Limit { what: "files", limit: entries });
        }
        self.done.bytes = self.done.bytes.saturating_add(entry.data_len());
        if self.done.bytes > bytes {
            return Err(ReceiveError::Limit { what: "bytes", limit: bytes });
        }
        Ok(())
    }

    fn take_target(&mut self, entry: &Entry, metadata: Metadata) -> Result<(), ReceiveError> {
        let path = self.target.path().clone();
        if self.begun {
            return Err(ReceiveError::Order { path });
        }
        self.begun = true;
        let is = |found, wanted| ReceiveError::Exists { path: path.clone(), found, wanted };
        match (&self.target.place, entry.kind) {
            (Place::Name { .. }, EntryKind::File) => {
                let incoming = Incoming::create(self.target)?;
                self.take_data(incoming, entry, metadata)
            }
            (Place::Dir(_), EntryKind::File) => Err(is(EntryKind::Dir, EntryKind::File)),
            (_, found) if !self.options.tree => Err(is(found, EntryKind::File)),
            (Place::Dir(dir), EntryKind::Dir) => {
                // The user's own directory keeps its mode, as `cp` has it.
                let fd = dir.try_clone().map_err(FileError::on(Action::Open, &path))?;
                leftovers::sweep(fd.as_fd());
                let (relative, begin) = (Vec::new(), Begin::Aside);
                self.levels.push(Level { fd, relative, metadata: None, begin });
                Ok(())
            }
            (Place::Name { mode: Some(_), .. }, EntryKind::Dir) => {
                Err(is(EntryKind::File, EntryKind::Dir))
            }
            (Place::Name { dir, name, .. }, EntryKind::Dir) => {
                leftovers::sweep(dir.as_fd());
                let made = make_dir(dir.as_fd(), name, &path)?;
                let level = self.level(made, Vec::new(), metadata);
                self.levels.push(level);
                Ok(())
            }
            (_, _) => Err(ReceiveError::Order { path }),
        }
    }

    fn take_child(
        &mut self,
        parent: &Level,
        name: &[u8],
        entry: &Entry,
        metadata: Metadata,
        path: ByteString,
    ) -> Result<Option<Level>, ReceiveError> {
        let dir = parent.fd.as_fd();
        match (entry.kind, &entry.target) {
            (EntryKind::Dir, _) => {
                let made = make_dir(dir, name, &path)?;
                Ok(Some(self.level(made, entry.path.as_bytes().to_vec(), metadata)))
            }
            (EntryKind::Symlink, Some(link)) => {
                make_link(dir, name, link, metadata, &path)?;
                Ok(None)
            }
            (_, _) => {
                let begin = parent.begin;
                let incoming = Incoming::create_in(dir, name, path, begin, metadata.mode)?;
                self.take_data(incoming, entry, metadata)?;
                Ok(None)
            }
        }
    }

    /// A directory that was just made, or found.
    fn level(&self, (fd, is_new): (OwnedFd, bool), relative: Vec<u8>, metadata: Metadata) -> Level {
        let in_place = is_new && self.options.staging == Staging::Replacing;
        let begin = if in_place { Begin::InPlace } else { Begin::Aside };
        Level { fd, relative, metadata: Some(metadata), begin }
    }

    fn take_data(
        &mut self,
        incoming: Incoming<'_>,
        entry: &Entry,
        metadata: Metadata,
    ) -> Result<(), ReceiveError> {
        let path = incoming.path().clone();
        let mut hash = Xxh64::new(0);
        let mut end = 0;
        for segment in &entry.segments {
            end = segment.offset.saturating_add(segment.len);
            self.take_segment(&incoming, segment.offset, segment.len, &mut hash)?;
        }
        if end < entry.size {
            let sized = incoming.file().set_len(entry.size);
            sized.map_err(FileError::on(Action::Write, &path))?;
        }
        let mut trailer = [0; Trailer::LEN];
        let read = self.frames.raw().read_exact(&mut trailer);
        read.map_err(|source| ReceiveError::Data { path: path.clone(), source })?;
        let trailer = Trailer::from_bytes(trailer);
        if trailer.status == Status::SourceFailed {
            return Err(self.sender_failed(path));
        }
        let got = hash.digest();
        if got != trailer.xxh64 {
            return Err(ReceiveError::Checksum { path, expected: trailer.xxh64, got });
        }
        Ok(incoming.commit(metadata)?)
    }

    fn take_segment(
        &mut self,
        incoming: &Incoming<'_>,
        mut at: u64,
        mut left: u64,
        hash: &mut Xxh64,
    ) -> Result<(), ReceiveError> {
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            if self.buffer.len() < want {
                self.buffer.resize(want, 0);
            }
            let space = self.buffer.get_mut(..want).unwrap_or_default();
            let path = || incoming.path().clone();
            let count = match self.frames.raw().read(space) {
                Ok(0) => {
                    let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(ReceiveError::Data { path: path(), source });
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ReceiveError::Data { path: path(), source }),
            };
            let data = space.get(..count).unwrap_or_default();
            incoming.write_at(data, at)?;
            hash.update(data);
            let moved = count as u64;
            at = at.saturating_add(moved);
            left = left.saturating_sub(moved);
            if (self.watch)(moved).is_break() {
                return Err(ReceiveError::Stopped);
            }
        }
        Ok(())
    }

    /// The frame after a voided file says why.
    fn sender_failed(&mut self, path: ByteString) -> ReceiveError {
        match self.frames.read() {
            Ok(Some(frame)) => match Transfer::decode(frame) {
                Ok(Transfer::Error(fault)) => ReceiveError::Sender(fault),
                Ok(Transfer::Entry(_) | Transfer::Done(_)) | Err(_) => {
                    ReceiveError::SourceFailed { path }
                }
            },
            Ok(None) | Err(_) => ReceiveError::SourceFailed { path },
        }
    }

    /// Finishes the directories below the first `keep`.
    fn close_levels(&mut self, keep: usize) -> Result<(), ReceiveError> {
        let mut result = Ok(());
        while self.levels.len() > keep {
            let Some(Level { fd, relative, metadata, begin: _ }) = self.levels.pop() else { break };
            let Some(metadata) = metadata else { continue };
            let path = self.shown(&ByteString::from(relative));
            let set = metadata.set(fd.as_fd()).map_err(FileError::on(Action::SetMetadata, &path));
            result = result.and(set);
        }
        Ok(result?)
    }

    /// The path for messages.
    fn shown(&self, relative: &ByteString) -> ByteString {
        let mut path = self.target.path().as_bytes().to_vec();
        if !relative.is_empty() {
            path.push(b'/');
            path.extend_from_slice(relative.as_bytes());
        }
        path.into()
    }
}

/// Splits `a/b/c` into `a/b` and `c`.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (
            path.get(..at).unwrap_or_default(),
            path.get(at.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (&[], path),
    }
}

/// Makes a directory (true), or opens the one that is there. Until it is complete only its owner can enter a fresh one.
fn make_dir(
    dir: BorrowedFd<'_>,
    name: &[u8],
    path: &ByteString,
) -> Result<(OwnedFd, bool), ReceiveError> {
    let is_new = match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(FileError::on(Action::Create, path)(error).into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => {
            if is_new {
                leftovers::occupy(fd.as_fd());
            } else {
                leftovers::sweep(fd.as_fd());
            }
            Ok((fd, is_new))
        }
        // A file is there, or a link, through which nothing is ever written.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok();
            let found = found.and_then(|s| stat::kind(&s)).unwrap_or(EntryKind::File);
            Err(ReceiveError::Exists { path: path.clone(), found, wanted: EntryKind::Dir })
        }
        Err(error) => Err(FileError::on(Action::Open, path)(error).into()),
    }
}

fn make_link(
    dir: BorrowedFd<'_>,
    name: &[u8],
    link: &ByteString,
    metadata: Metadata,
    path: &ByteString,
) -> Result<(), ReceiveError> {
    let (temporary, ()) =
        Temporary::make(dir, |name| rustix::fs::symlinkat(link.as_bytes(), dir, name))
            .map_err(FileError::on(Action::Create, path))?;
    let set = || -> Result<(), Errno> {
        if metadata.uid.is_some() || metadata.gid.is_some() {
            let (uid, gid) = metadata.owners();
            rustix::fs::chownat(dir, temporary.name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        match metadata.times() {
            Some(t) => rustix::fs::utimensat(dir, temporary.name(), &t, AtFlags::SYMLINK_NOFOLLOW),
            None => Ok(()),
        }
    };
    set().map_err(FileError::on(Action::SetMetadata, path))?;
    let renamed = temporary.rename(dir, name);
    Ok(renamed.map_err(FileError::on(Action::Replace, path))?)
}
