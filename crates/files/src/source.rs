//! What is to be sent.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bandsox_proto::ByteString;
use bandsox_proto::v2::{Entry, EntryKind, Segment, Status, Trailer};
use rustix::fs::{CWD, Mode, OFlags, Stat};
use xxhash_rust::xxh64::Xxh64;

use crate::segments::segments;
use crate::{Action, BUFFER, FileError, Owners, SMALL, SendError, Watch, stat};

/// A file or a directory, opened.
#[derive(Debug)]
pub struct Source {
    pub(crate) fd: OwnedFd,
    pub(crate) stat: Stat,
    pub(crate) path: ByteString,
    kind: EntryKind,
}

impl Source {
    /// Opens `path`, through symbolic links, for it was named by the user.
    ///
    /// # Errors
    ///
    /// [`SendError::File`] or, for devices, sockets and pipes, [`SendError::Kind`].
    pub fn open(path: &Path) -> Result<Self, SendError> {
        let name = ByteString::from(path);
        // A pipe without a writer must not hang us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        // Opening a device can do things; look first. What is opened is looked at again.
        let stat = rustix::fs::stat(path).map_err(FileError::on(Action::Open, &name))?;
        require_sendable(&stat, &name)?;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty());
        let fd = fd.map_err(FileError::on(Action::Open, &name))?;
        let stat = rustix::fs::fstat(&fd).map_err(FileError::on(Action::Open, &name))?;
        let kind = require_sendable(&stat, &name)?;
        Ok(Self { fd, stat, path: name, kind })
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == EntryKind::Dir
    }

    /// Length in bytes of a file.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// The file itself, to be read from its start, and its path for messages.
    ///
    /// # Errors
    ///
    /// [`SendError::IsADirectory`]
    pub fn into_std(self) -> Result<(File, ByteString), SendError> {
        if self.is_dir() {
            return Err(SendError::IsADirectory { path: self.path });
        }
        Ok((File::from(self.fd), self.path))
    }

    /// The one file, ready to be announced.
    ///
    /// # Errors
    ///
    /// [`SendError::IsADirectory`], or what reading a small file reports.
    pub fn into_file(self, owners: Owners) -> Result<OpenFile, SendError> {
        if self.is_dir() {
            return Err(SendError::IsADirectory { path: self.path });
        }
        OpenFile::new(self.fd, &self.stat, ByteString::default(), self.path, owners)
    }
}

fn require_sendable(stat: &Stat, path: &ByteString) -> Result<EntryKind, SendError> {
    let unsupported =
        || FileError::on(Action::Open, path)(io::Error::from(io::ErrorKind::Unsupported));
    match stat::kind(stat).ok_or_else(unsupported)? {
        kind @ (EntryKind::File | EntryKind::Dir) => Ok(kind),
        kind @ (EntryKind::Symlink
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharDevice
        | EntryKind::BlockDevice) => Err(SendError::Kind { path: path.clone(), kind }),
    }
}

/// A file on its way: announced by [`OpenFile::entry`], then sent.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    entry: Entry,
    path: ByteString,
    /// All of it, if it is small.
    content: Option<Vec<u8>>,
}

impl OpenFile {
    pub(crate) fn new(
        fd: OwnedFd,
        stat: &Stat,
        relative: ByteString,
        path: ByteString,
        owners: Owners,
    ) -> Result<Self, SendError> {
        let mut file = File::from(fd);
        let mut entry = entry(stat, EntryKind::File, relative, owners);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        let content = if entry.size <= SMALL as u64 {
            read_small(&mut file).map_err(FileError::on(Action::Read, &path))?
        } else {
            None
        };
        entry.segments = match &content {
            Some(content) => {
                entry.size = content.len() as u64;
                let len = entry.size;
                if len == 0 { Vec::new() } else { vec![Segment { offset: 0, len }] }
            }
            None => segments(file.as_fd(), stat, entry.size),
        };
        Ok(Self { file, entry, path, content })
    }

    /// The frame that announces it.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// All the data, if it is small enough to travel with its frame.
    pub(crate) fn content(&self) -> Option<&[u8]> {
        self.content.as_deref()
    }

    /// Sends the raw bytes and the trailer.
    ///
    /// # Errors
    ///
    /// [`SendError::Shrank`] and [`SendError::File`] after all promised bytes and a trailer that voids them: the channel
    /// is good for an Error frame. After [`SendError::Channel`] and [`SendError::Stopped`] it is not.
    pub fn send_data(&self, out: &mut impl Write, watch: Watch<'_>) -> Result<(), SendError> {
        if let Some(content) = &self.content {
            out.write_all(content).map_err(SendError::Channel)?;
            let trailer = good_trailer(content);
            out.write_all(&trailer).map_err(SendError::Channel)?;
            return if watch(self.entry.size).is_break() {
                Err(SendError::Stopped)
            } else {
                Ok(())
            };
        }
        let mut buffer = vec![0; BUFFER];
        let mut hash = Xxh64::new(0);
        let mut failure = None;
        for segment in &self.entry.segments {
            self.send_segment(*segment, &mut buffer, &mut hash, &mut failure, out, watch)?;
        }
        let status = if failure.is_some() { Status::SourceFailed } else { Status::Complete };
        let trailer = Trailer { status, xxh64: hash.digest() };
        out.write_all(&trailer.to_bytes()).map_err(SendError::Channel)?;
        failure.map_or(Ok(()), Err)
    }

    fn send_segment(
        &self,
        segment: Segment,
        buffer: &mut [u8],
        hash: &mut Xxh64,
        failure: &mut Option<SendError>,
        out: &mut impl Write,
        watch: Watch<'_>,
    ) -> Result<(), SendError> {
        let (mut at, mut left) = (segment.offset, segment.len);
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let space = buffer.get_mut(..want).unwrap_or_default();
            let count = match failure {
                None => self.read(space, at, failure),
                // The length was promised; zeros keep the frames that follow in step.
                Some(_) => {
                    space.fill(0);
                    want
                }
            };
            let data = space.get(..count).unwrap_or_default();
            hash.update(data);
            out.write_all(data).map_err(SendError::Channel)?;
            let moved = count as u64;
            at = at.saturating_add(moved);
            left = left.saturating_sub(moved);
            if watch(moved).is_break() {
                return Err(SendError::Stopped);
            }
        }
        Ok(())
    }

    /// Reads what there is at `at`; on failure notes why and returns 0.
    fn read(&self, space: &mut [u8], at: u64, failure: &mut Option<SendError>) -> usize {
        match self.file.read_at(space, at) {
            Ok(0) => {
                let (path, size) = (self.path.clone(), self.entry.size);
                *failure = Some(SendError::Shrank { path, got: at, size });
                0
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(source) => {
                *failure = Some(FileError::on(Action::Read, &self.path)(source).into());
                0
            }
        }
    }
}

/// The trailer of data that is there.
pub(crate) fn good_trailer(content: &[u8]) -> [u8; Trailer::LEN] {
    let xxh64 = xxhash_rust::xxh64::xxh64(content, 0);
    Trailer { status: Status::Complete, xxh64 }.to_bytes()
}

/// An entry with all but its data.
pub(crate) fn entry(stat: &Stat, kind: EntryKind, path: ByteString, owners: Owners) -> Entry {
    let keep = |id: u32| (owners == Owners::Keep).then_some(id);
    Entry {
        path,
        kind,
        mode: stat::permissions(stat),
        uid: keep(stat.st_uid),
        gid: keep(stat.st_gid),
        mtime_ns: stat::mtime_ns(stat),
        size: 0,
        target: None,
        segments: Vec::new(),
    }
}

/// All of a file, or nothing if it turns out not to be small.
fn read_small(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    file.take(SMALL as u64 + 1).read_to_end(&mut content)?;
    Ok((content.len() <= SMALL).then_some(content))
}
