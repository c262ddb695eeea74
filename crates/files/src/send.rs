//! Sending a file or a tree.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{Done, Entry, EntryKind, Transfer};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::source::{OpenFile, entry, good_trailer};
use crate::{Action, FileError, MAX_DEPTH, Owners, SendError, Source, Watch, stat};

/// Bytes of frames and small files that go out in one write.
const BATCH: usize = 128 * 1024;

/// Most names that [`Done`] lists.
const MAX_SKIPPED_NAMES: usize = 16;

/// How to send.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// Whether owner and group travel.
    pub owners: Owners,
}

/// Sends `source`: an entry and its data for each file, depth first, then Done. Directories come before what is in them.
///
/// Returns what the Done frame said. The receiver's own Done, or its Error, is still to be read.
///
/// # Errors
///
/// See [`SendError`]. Unless the channel failed or the watch stopped it, the receiver has been sent an Error frame that
/// says the same.
pub fn send(
    source: Source,
    options: SendOptions,
    out: &mut impl Write,
    watch: Watch<'_>,
) -> Result<Done, SendError> {
    let batch = Vec::with_capacity(BATCH);
    let mut sender = Sender { options, out, batch, done: Done::default(), watch };
    let result = sender.send_root(source);
    match result {
        Ok(()) => {
            let done = std::mem::take(&mut sender.done);
            sender.put(&Transfer::Done(done.clone()))?;
            sender.flush()?;
            Ok(done)
        }
        Err(error @ (SendError::Channel(_) | SendError::Stopped)) => Err(error),
        Err(error) => {
            sender.put(&Transfer::Error(crate::fault(&error)))?;
            sender.flush()?;
            Err(error)
        }
    }
}

struct Sender<'a, W> {
    options: SendOptions,
    out: &'a mut W,
    batch: Vec<u8>,
    done: Done,
    watch: Watch<'a>,
}

/// One directory being listed.
struct Level {
    dir: Dir,
    fd: OwnedFd,
    /// Relative to the source; empty for the source itself.
    relative: Vec<u8>,
}

impl<W: Write> Sender<'_, W> {
    fn send_root(&mut self, source: Source) -> Result<(), SendError> {
        if !source.is_dir() {
            let file = source.into_file(self.options.owners)?;
            return self.send_file(&file);
        }
        let root = entry(&source.stat, EntryKind::Dir, ByteString::default(), self.options.owners);
        self.send_plain(root)?;
        let mut levels = vec![level(source.fd, Vec::new(), &source.path)?];
        while let Some(top) = levels.last_mut() {
            let path = joined(source.path.as_bytes(), &top.relative);
            let Some(next) = top.dir.read() else {
                levels.pop();
                continue;
            };
            let next = next.map_err(FileError::on(Action::List, &path.clone().into()))?;
            let name = next.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let child = Child {
                name,
                relative: joined(&top.relative, name),
                path: joined(&path, name).into(),
            };
            if let Some(below) = self.send_child(&top.fd, &child)? {
                if levels.len() >= MAX_DEPTH {
                    return Err(SendError::TooDeep { path: child.path });
                }
                levels.push(below);
            }
        }
        Ok(())
    }

    /// Sends what `child` is; a directory is returned, to be listed.
    fn send_child(&mut self, dir: &OwnedFd, child: &Child<'_>) -> Result<Option<Level>, SendError> {
        let found = rustix::fs::statat(dir, child.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = match found {
            Ok(stat) => stat,
            // Removed since it was listed.
            Err(Errno::NOENT) => return Ok(self.skip(child)),
            Err(error) => return Err(FileError::on(Action::Open, &child.path)(error).into()),
        };
        match stat::kind(&stat) {
            Some(EntryKind::File) => self.send_child_file(dir, child),
            Some(EntryKind::Dir) => self.send_child_dir(dir, child),
            Some(EntryKind::Symlink) => {
                let target = match rustix::fs::readlinkat(dir, child.name, Vec::new()) {
                    Ok(target) => target,
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(self.skip(child)),
                    Err(error) => {
                        return Err(FileError::on(Action::Read, &child.path)(error).into());
                    }
                };
                let relative = child.relative.clone().into();
                let mut link = entry(&stat, EntryKind::Symlink, relative, self.options.owners);
                link.target = Some(target.into_bytes().into());
                self.send_plain(link)?;
                Ok(None)
            }
            Some(
                EntryKind::Fifo
                | EntryKind::Socket
                | EntryKind::CharDevice
                | EntryKind::BlockDevice,
            )
            | None => Ok(self.skip(child)),
        }
    }

    fn send_child_file(
        &mut self,
        dir: &OwnedFd,
        child: &Child<'_>,
    ) -> Result<Option<Level>, SendError> {
        let Some((fd, stat)) = open(dir, child, OFlags::NONBLOCK)? else {
            return Ok(self.skip(child));
        };
        if stat::kind(&stat) != Some(EntryKind::File) {
            return Ok(self.skip(child));
        }
        let relative = child.relative.clone().into();
        let file = OpenFile::new(fd, &stat, relative, child.path.clone(), self.options.owners)?;
        self.send_file(&file)?;
        Ok(None)
    }

    fn send_child_dir(
        &mut self,
        dir: &OwnedFd,
        child: &Child<'_>,
    ) -> Result<Option<Level>, SendError> {
        let Some((fd, stat)) = open(dir, child, OFlags::DIRECTORY)? else {
            return Ok(self.skip(child));
        };
        let relative = child.relative.clone().into();
        self.send_plain(entry(&stat, EntryKind::Dir, relative, self.options.owners))?;
        Ok(Some(level(fd, child.relative.clone(), &child.path)?))
    }

    fn send_file(&mut self, file: &OpenFile) -> Result<(), SendError> {
        self.put(&Transfer::Entry(file.entry().clone()))?;
        if let Some(content) = file.content() {
            self.batch.extend_from_slice(content);
            self.batch.extend_from_slice(&good_trailer(content));
            if (self.watch)(file.entry().size).is_break() {
                return Err(SendError::Stopped);
            }
        } else {
            self.flush()?;
            file.send_data(self.out, self.watch)?;
        }
        self.done.files = self.done.files.saturating_add(1);
        self.done.bytes = self.done.bytes.saturating_add(file.entry().data_len());
        self.flush_if_full()
    }

    /// Sends an entry that has no data.
    fn send_plain(&mut self, entry: Entry) -> Result<(), SendError> {
        self.put(&Transfer::Entry(entry))?;
        self.done.others = self.done.others.saturating_add(1);
        self.flush_if_full()
    }

    fn skip(&mut self, child: &Child<'_>) -> Option<Level> {
        self.done.skipped = self.done.skipped.saturating_add(1);
        if self.done.skipped_names.len() < MAX_SKIPPED_NAMES {
            self.done.skipped_names.push(child.relative.clone().into());
        }
        None
    }

    fn put(&mut self, message: &Transfer) -> Result<(), SendError> {
        Ok(message.encode(&mut self.batch)?)
    }

    fn flush_if_full(&mut self) -> Result<(), SendError> {
        if self.batch.len() >= BATCH / 2 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SendError> {
        let sent = self.out.write_all(&self.batch).and_then(|()| self.out.flush());
        self.batch.clear();
        sent.map_err(SendError::Channel)
    }
}

struct Child<'a> {
    name: &'a [u8],
    relative: Vec<u8>,
    path: ByteString,
}

/// Opens what the listing named, never through a link; `None` if it is no longer what it was.
fn open(
    dir: &OwnedFd,
    child: &Child<'_>,
    flags: OFlags,
) -> Result<Option<(OwnedFd, rustix::fs::Stat)>, SendError> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    match rustix::fs::openat(dir, child.name, flags, Mode::empty()) {
        Ok(fd) => {
            let stat = rustix::fs::fstat(&fd).map_err(FileError::on(Action::Open, &child.path))?;
            Ok(Some((fd, stat)))
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(FileError::on(Action::Open, &child.path)(error).into()),
    }
}

fn level(fd: OwnedFd, relative: Vec<u8>, path: &ByteString) -> Result<Level, SendError> {
    let dir = Dir::read_from(fd.as_fd()).map_err(FileError::on(Action::List, path))?;
    Ok(Level { dir, fd, relative })
}

fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if !path.is_empty() && !path.ends_with(b"/") && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
