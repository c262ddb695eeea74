//! The file system that is being built, in memory: names, attributes, and where each file's data went.
//!
//! Paths are resolved **inside the tree only**. Nothing here touches the host's file system, so an archive whose path leads
//! through a symbolic link ends up wherever that link points within the image, as it would in a chroot.

mod removal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::collections::{BTreeMap, VecDeque};

use super::data::FileData;
use super::xattr::Xattr;
use crate::timestamp::Timestamp;

/// A file in the tree; an index that never dangles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(usize);

impl InodeId {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// What every kind of file has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits, with set-uid, set-gid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Extended attributes, in the order in which they are written.
    pub xattrs: Vec<Xattr>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file, and where its data is.
    File(FileData),
    /// A symbolic link, and where it points, uninterpreted.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice {
        /// Major number, at most 4095.
        major: u32,
        /// Minor number, at most 1,048,575.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number, at most 4095.
        major: u32,
        /// Minor number, at most 1,048,575.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) attributes: Attributes,
    pub(super) node: Node,
    /// Entries of a directory, by name; `.` and `..` are not among them.
    pub(super) children: BTreeMap<Box<[u8]>, InodeId>,
}

/// The tree. Replaced files stay in it, unreachable, and are left out of the image.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    names: u64,
    metadata_bytes: u64,
    max_names: u64,
    max_metadata_bytes: u64,
}

/// Why a file could not be added. Paths are as the source had them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A path that climbs with `..`.
    #[error("path {path:?} contains `..`")]
    Climbs {
        /// The path.
        path: String,
    },
    /// A path with a name that no file can have.
    #[error("path {path:?} contains a name that is too long (over 255 bytes) or holds a NUL")]
    BadName {
        /// The path.
        path: String,
    },
    /// A path that leads through something other than a directory.
    #[error("path {path:?} leads through {through:?}, which is not a directory")]
    NotADirectory {
        /// The path.
        path: String,
        /// The name on it that is none.
        through: String,
    },
    /// Symbolic links that lead in a circle, or 40 of them.
    #[error("path {path:?} leads through too many symbolic links")]
    Loop {
        /// The path.
        path: String,
    },
    /// The root replaced by something else.
    #[error("path {path:?} is the root and must be a directory")]
    RootIsNoDirectory {
        /// The path.
        path: String,
    },
    /// A symbolic link's target that no link can have.
    #[error("symbolic link {path:?} has a target of {bytes} bytes; want 1 to 4095 without NUL")]
    BadTarget {
        /// The link.
        path: String,
        /// Length of its target.
        bytes: usize,
    },
    /// A hard link to what is not there (yet) or cannot be linked.
    #[error("hard link {path:?} names {target:?}, which is {what}")]
    HardLink {
        /// The link.
        path: String,
        /// What it names.
        target: String,
        /// What is wrong with that.
        what: &'static str,
    },
    /// A device number that inodes cannot hold.
    #[error("device {path:?} has number {major}:{minor}; want at most 4095:1048575")]
    Device {
        /// The device.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// More files than the limit allows.
    #[error("more than {limit} files and directories")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// More names and attributes than the limit allows.
    #[error("names and attributes take more than {limit} bytes")]
    TooMuchMetadata {
        /// The limit.
        limit: u64,
    },
}

impl Tree {
    /// A tree with an empty root, `root`, mode 0755, bounded as given.
    pub fn new(max_names: u64, max_metadata_bytes: u64) -> Self {
        let root = Inode {
            attributes: implicit_attributes(),
            node: Node::Directory,
            children: BTreeMap::new(),
        };
        Self { inodes: vec![root], names: 1, metadata_bytes: 0, max_names, max_metadata_bytes }
    }

    /// Puts a file at `path`, creating missing directories above it. What was there is replaced, with everything below it,
    /// unless both are directories: then only the attributes are.
    pub fn insert(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        node: Node,
    ) -> Result<InodeId, TreeError> {
        check_node(path, &node)?;
        let names = split(path)?;
        let Some((name, above)) = names.split_last() else {
            let (Node::Directory, Some(root)) = (&node, self.inodes.first_mut()) else {
                return Err(TreeError::RootIsNoDirectory { path: shown(path) });
            };
            root.attributes = attributes;
            return Ok(ROOT);
        };
        let parent = self
            .resolve(path, above, Missing::Create)?
            .ok_or(TreeError::Climbs { path: shown(path) })?;
        if node == Node::Directory
            && let Some(existing) = self.get(parent).children.get(*name).copied()
            && self.get(existing).node == Node::Directory
        {
            self.charge(0, attributes_bytes(&attributes))?;
            self.get_mut(existing).attributes = attributes;
            return Ok(existing);
        }
        self.add_child(parent, name, attributes, node)
    }

    /// Gives the file at `target` another name; `gone` is what was there when it no longer is.
    pub fn hard_link(
        &mut self,
        path: &[u8],
        target: &[u8],
        gone: Option<InodeId>,
    ) -> Result<(), TreeError> {
        let refused = |what| TreeError::HardLink { path: shown(path), target: shown(target), what };
        if split(target)?.is_empty() {
            return Err(refused("the root"));
        }
        let inode = self.find(target)?.or(gone).ok_or_else(|| refused("not there"))?;
        if self.get(inode).node == Node::Directory {
            return Err(refused("a directory"));
        }
        let names = split(path)?;
        let (name, above) =
            names.split_last().ok_or_else(|| TreeError::RootIsNoDirectory { path: shown(path) })?;
        let parent =
            self.resolve(path, above, Missing::Create)?.ok_or_else(|| refused("not there"))?;
        self.link(parent, name, inode)
    }

    /// What is at `path`; a symbolic link at its end is not followed.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<InodeId>, TreeError> {
        let names = split(path)?;
        let Some((name, above)) = names.split_last() else {
            return Ok(Some(ROOT));
        };
        let directory = self.resolve(path, above, Missing::Stop)?;
        Ok(directory.and_then(|directory| self.get(directory).children.get(*name).copied()))
    }

    /// Adds a new file called `name` to the directory `parent`, replacing what had the name.
    pub fn add_child(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: Attributes,
        node: Node,
    ) -> Result<InodeId, TreeError> {
        self.charge(0, held_bytes(&attributes, &node))?;
        let id = InodeId(self.inodes.len());
        self.inodes.push(Inode { attributes, node, children: BTreeMap::new() });
        self.link(parent, name, id)?;
        Ok(id)
    }

    /// Gives `inode` the name `name` in the directory `parent`, replacing what had it.
    pub fn link(&mut self, parent: InodeId, name: &[u8], inode: InodeId) -> Result<(), TreeError> {
        self.charge(1, name.len())?;
        self.get_mut(parent).children.insert(name.into(), inode);
        Ok(())
    }

    /// The root directory.
    pub fn root(&self) -> InodeId {
        ROOT
    }

    /// Replaces the root's attributes.
    pub fn set_attributes(&mut self, inode: InodeId, attributes: Attributes) {
        self.get_mut(inode).attributes = attributes;
    }

    pub(super) fn get(&self, id: InodeId) -> &Inode {
        self.inodes.get(id.0).expect("ids come from this tree, which only grows")
    }

    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    fn get_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(id.0).expect("ids come from this tree, which only grows")
    }

    /// The directory that `names` lead to, through symbolic links, or `None` where [`Missing::Stop`] ends it.
    fn resolve(
        &mut self,
        path: &[u8],
        names: &[&[u8]],
        missing: Missing,
    ) -> Result<Option<InodeId>, TreeError> {
        let mut ahead: VecDeque<Box<[u8]>> = names.iter().map(|name| Box::from(*name)).collect();
        let mut trail = vec![ROOT];
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if *name == *b".." {
                // As in a chroot, the root's parent is the root.
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let here = *trail.last().expect("the root is never popped");
            let Some(next) = self.get(here).children.get(&name).copied() else {
                if missing == Missing::Stop {
                    return Ok(None);
                }
                trail.push(self.add_child(here, &name, implicit_attributes(), Node::Directory)?);
                continue;
            };
            match &self.get(next).node {
                Node::Directory => trail.push(next),
                Node::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(TreeError::Loop { path: shown(path) });
                    }
                    if target.starts_with(b"/") {
                        trail.truncate(1);
                    }
                    for part in components(target).rev() {
                        ahead.push_front(part.into());
                    }
                }
                Node::File(_)
                | Node::CharDevice { .. }
                | Node::BlockDevice { .. }
                | Node::Fifo
                | Node::Socket => {
                    return Err(TreeError::NotADirectory {
                        path: shown(path),
                        through: shown(&name),
                    });
                }
            }
        }
        Ok(trail.last().copied())
    }

    /// Counts what is about to be held against the limits.
    fn charge(&mut self, names: u64, bytes: usize) -> Result<(), TreeError> {
        self.names = self.names.saturating_add(names);
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes as u64);
        if self.names > self.max_names {
            return Err(TreeError::TooMany { limit: self.max_names });
        }
        if self.metadata_bytes > self.max_metadata_bytes {
            return Err(TreeError::TooMuchMetadata { limit: self.max_metadata_bytes });
        }
        Ok(())
    }
}

/// What to do where a path leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Stop,
}

fn check_node(path: &[u8], node: &Node) -> Result<(), TreeError> {
    match node {
        Node::Symlink(target) if !(1..=4095).contains(&target.len()) || target.contains(&0) => {
            Err(TreeError::BadTarget { path: shown(path), bytes: target.len() })
        }
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor }
            if super::disk::encode_device(*major, *minor).is_none() =>
        {
            Err(TreeError::Device { path: shown(path), major: *major, minor: *minor })
        }
        Node::Directory
        | Node::File(_)
        | Node::Symlink(_)
        | Node::CharDevice { .. }
        | Node::BlockDevice { .. }
        | Node::Fifo
        | Node::Socket => Ok(()),
    }
}

/// The names on a path, relative to the root whether or not it begins with `/`; none for the root itself.
fn split(path: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    let names: Vec<_> = components(path).collect();
    if names.iter().any(|name| *name == b"..") {
        return Err(TreeError::Climbs { path: shown(path) });
    }
    if names.iter().any(|name| name.len() > 255 || name.contains(&0)) {
        return Err(TreeError::BadName { path: shown(path) });
    }
    Ok(names)
}

/// The names of `path`: what is between its slashes, without empty ones and `.`.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

fn implicit_attributes() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

/// Bytes that a file takes in memory until the image is finished.
#[must_use]
pub fn held_bytes(attributes: &Attributes, node: &Node) -> usize {
    let content = match node {
        Node::File(data) => data.inline_bytes(),
        Node::Symlink(target) => target.len(),
        Node::Directory
        | Node::CharDevice { .. }
        | Node::BlockDevice { .. }
        | Node::Fifo
        | Node::Socket => 0,
    };
    attributes_bytes(attributes).saturating_add(content)
}

fn attributes_bytes(attributes: &Attributes) -> usize {
    attributes.xattrs.iter().map(Xattr::len).sum()
}

/// A path for an error message: bounded, and readable whatever bytes it holds.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path.get(..path.len().min(512)).unwrap_or_default()).into_owned()
}

const ROOT: InodeId = InodeId(0);
/// As the kernel's `MAXSYMLINKS`.
const MAX_LINKS: u32 = 40;

#[cfg(test)]
pub(super) mod tests;
