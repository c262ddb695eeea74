//! What the walk finds, into the image.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use bandsox_erofs::{Attributes, Builder, InodeId, Node, Timestamp, Xattr};
use rustix::fs::{
    FileType, Mode, OFlags, SeekFrom, Stat, fstat, lgetxattr, llistxattr, llistxattr_query, major,
    minor, openat, readlinkat, seek,
};
use rustix::io::Errno;

use super::walk::{Entry, Step, walk};
use super::{DirectoryError, unreadable};
use crate::base::add::{AddError, shown, xattrs};

/// Adds everything below `root`.
pub(super) fn add(builder: &mut Builder, root: BorrowedFd<'_>) -> Result<(), DirectoryError> {
    let mut adder = Adder { builder, parents: Vec::new(), linked: HashMap::new() };
    walk(root, &mut |step| match step {
        Step::Entry(entry) => adder.entry(&entry),
        Step::Leave => {
            adder.parents.pop();
            Ok(())
        }
    })
}

struct Adder<'a> {
    builder: &'a mut Builder,
    /// The directories from the root to where the walk is.
    parents: Vec<InodeId>,
    /// Files with more than one name, by device and inode number.
    linked: HashMap<(u64, u64), InodeId>,
}

impl Adder<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), DirectoryError> {
        let Some(parent) = self.parents.last().copied() else {
            let root = self.builder.tree.root();
            self.builder.tree.set_attributes(root, attributes(entry, &entry.stat)?);
            self.parents.push(root);
            return Ok(());
        };
        let stat = &entry.stat;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let key = (stat.st_dev, stat.st_ino);
        let name = entry.name.to_bytes();
        if stat.st_nlink > 1
            && !is_directory
            && let Some(inode) = self.linked.get(&key)
        {
            self.builder.tree.link(parent, name, *inode).map_err(AddError::from)?;
            return Ok(());
        }
        let (node, stat) = self.node(entry)?;
        let attributes = attributes(entry, &stat)?;
        let inode =
            self.builder.tree.add_child(parent, name, attributes, node).map_err(AddError::from)?;
        if is_directory {
            self.parents.push(inode);
        } else if stat.st_nlink > 1 {
            self.linked.insert(key, inode);
        }
        Ok(())
    }

    fn node(&mut self, entry: &Entry<'_>) -> Result<(Node, Stat), DirectoryError> {
        let stat = entry.stat;
        let node = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(entry),
            FileType::Directory => Node::Directory,
            FileType::Symlink => {
                let target = readlinkat(entry.directory, entry.name, Vec::new());
                let target = target.map_err(|errno| unreadable(entry.path)(errno.into()))?;
                Node::Symlink(target.into_bytes().into())
            }
            FileType::CharacterDevice => {
                Node::CharDevice { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
            }
            FileType::BlockDevice => {
                Node::BlockDevice { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
            }
            FileType::Fifo => Node::Fifo,
            FileType::Socket => Node::Socket,
            FileType::Unknown => {
                let source = io::Error::new(io::ErrorKind::InvalidData, "unknown kind of file");
                return Err(unreadable(entry.path)(source));
            }
        };
        Ok((node, stat))
    }

    /// Opens a regular file and takes its content in. What it is by then is asked of the open file.
    fn file(&mut self, entry: &Entry<'_>) -> Result<(Node, Stat), DirectoryError> {
        let failed = |errno: Errno| unreadable(entry.path)(errno.into());
        // NONBLOCK, since a fifo may have taken the file's place.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            File::from(openat(entry.directory, entry.name, flags, Mode::empty()).map_err(failed)?);
        let stat = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let source = io::Error::new(
                io::ErrorKind::InvalidData,
                "it was replaced while it was being read",
            );
            return Err(unreadable(entry.path)(source));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let extents = extents(&file, size).map_err(unreadable(entry.path))?;
        let mut data = ExtentReader { file: &file, extents: extents.iter(), left: 0 };
        let stored = self.builder.store(size, &extents, &mut data);
        let path = || shown(entry.path.as_os_str().as_bytes());
        let data = stored.map_err(|source| AddError::Data { path: path(), source })?;
        Ok((Node::File(data), stat))
    }
}

/// Where the file system says that there is data. Small files are read whole.
fn extents(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    if size == 0 {
        return Ok(Vec::new());
    }
    let mut extents = Vec::new();
    let mut at = 0;
    while size > SMALL && at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(extents),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end || extents.len() >= MAX_EXTENTS {
            break;
        }
        extents.push((start, end.saturating_sub(start)));
        at = end;
    }
    if at < size {
        extents.push((at, size.saturating_sub(at)));
    }
    Ok(extents)
}

/// Yields the bytes of extent after extent.
struct ExtentReader<'a> {
    file: &'a File,
    extents: std::slice::Iter<'a, (u64, u64)>,
    left: u64,
}

impl io::Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some((offset, length)) = self.extents.next() else {
                return Ok(0);
            };
            seek(self.file, SeekFrom::Start(*offset))?;
            self.left = *length;
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = io::Read::read(&mut &*self.file, buffer.get_mut(..want).unwrap_or_default())?;
        self.left = self.left.saturating_sub(got as u64);
        Ok(got)
    }
}

fn attributes(entry: &Entry<'_>, stat: &Stat) -> Result<Attributes, DirectoryError> {
    Ok(Attributes {
        mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or_default(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp {
            seconds: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        },
        xattrs: read_xattrs(entry)?,
    })
}

/// The extended attributes of an entry itself, never of what it links to.
fn read_xattrs(entry: &Entry<'_>) -> Result<Vec<Xattr>, DirectoryError> {
    let failed = |errno: Errno| unreadable(entry.path)(errno.into());
    // There is no call that takes a directory and a name; this path leads through the open directory all the same.
    let mut path = format!("/proc/self/fd/{}/", entry.directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(entry.name.to_bytes());
    let mut names = Vec::new();
    let length = match llistxattr_query(&path) {
        Ok(0) | Err(Errno::NOTSUP | Errno::PERM) => return Ok(Vec::new()),
        Ok(length) => length,
        Err(errno) => return Err(failed(errno)),
    };
    names.resize(length, 0);
    let length = llistxattr(&path, names.as_mut_slice()).map_err(failed)?;
    names.truncate(length);
    let mut pairs = Vec::new();
    let mut value = vec![0; 64 << 10];
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match lgetxattr(&path, name, value.as_mut_slice()) {
            Ok(length) => {
                pairs.push((name.to_vec(), value.get(..length).unwrap_or_default().to_vec()))
            }
            // Removed meanwhile, or not ours to see.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    let pairs = pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    Ok(xattrs(entry.path.as_os_str().as_bytes(), pairs)?)
}

/// Files up to this size are not asked for holes.
const SMALL: u64 = 64 << 10;
/// A file in more pieces is read whole from there on; its zeros become holes all the same.
const MAX_EXTENTS: usize = 1 << 16;
