//! The file system that an engine is loaded in, and its end.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use crate::failure::{Failure, Kind};
use crate::order::Order;
use crate::sys;

/// Where the new root is put together. Any directory would do: nothing is written to it, and
/// only this mount namespace sees it covered.
const STAGE: &str = "/tmp";

/// Inside the jail: where the empty root comes from. A plain directory, so that sealing needs
/// no writable file system.
const EMPTY: &str = "/empty";

const HARDENED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Puts a root together that holds what `order` says is needed for loading, read-only, and
/// moves this process into it.
///
/// To be called by process 1 of the pid namespace, which `proc` is to show, with the whole
/// mount namespace its own.
pub(crate) fn enter(order: &Order) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(Failure::at("making mounts private"))?;
    // Cloned before the stage covers any of them.
    let trees = clone_trees(&order.load_paths)?;
    let devices = clone_trees(&order.devices)?;

    mount("tmpfs", STAGE, "tmpfs", HARDENED, c"mode=0755,size=1m,nr_inodes=2k")
        .map_err(Failure::at("mounting the jail's root"))?;
    attach_all(&trees)?;
    make_directory(&staged(Path::new(EMPTY)))?;
    make_directory(&staged(Path::new("/proc")))?;
    mount("proc", staged(Path::new("/proc")), "proc", HARDENED, c"subset=pid,hidepid=invisible")
        .map_err(Failure::at("mounting the jail's /proc"))?;
    // Their mount points must be there before the root is read-only.
    let device_points =
        devices.iter().map(|tree| tree.make_mount_point()).collect::<Result<Vec<_>, _>>()?;

    let root = rustix::fs::open(STAGE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at("opening the jail's root"))?;
    sys::make_tree_read_only(&root).map_err(Failure::at("making the jail's root read-only"))?;
    // After that: a device on a mount without devices cannot be opened.
    for (tree, point) in devices.iter().zip(&device_points) {
        tree.attach(point)?;
    }
    chdir(STAGE).map_err(Failure::at("entering the jail's root"))?;
    pivot()
}

/// Replaces the root, for every process in this mount namespace, by an empty one that nobody
/// can write to, and lets go of the old one with all that is mounted in it.
pub(crate) fn seal() -> Result<(), Failure> {
    mount("tmpfs", EMPTY, "tmpfs", HARDENED | MountFlags::RDONLY, c"mode=0555,size=4k,nr_inodes=1")
        .map_err(Failure::at("mounting the empty root"))?;
    chdir(EMPTY).map_err(Failure::at("entering the empty root"))?;
    pivot()
}

/// Makes the current directory, a mount, the root.
///
/// The old root lands on top of the new one and is taken off there; no directory is needed to
/// put it (pivot_root(2), section "pivot_root(".", ".")").
fn pivot() -> Result<(), Failure> {
    pivot_root(".", ".").map_err(Failure::at("changing the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(Failure::at("leaving the old root"))?;
    chdir("/").map_err(Failure::at("entering the new root"))
}

/// A file or folder of the host, about to appear in the jail under its own path.
struct Tree {
    path: PathBuf,
    tree: OwnedFd,
    is_directory: bool,
}

fn clone_trees(paths: &[OsString]) -> Result<Vec<Tree>, Failure> {
    paths.iter().map(|path| Tree::clone_of(Path::new(path))).collect()
}

fn attach_all(trees: &[Tree]) -> Result<(), Failure> {
    for tree in trees {
        let point = tree.make_mount_point()?;
        tree.attach(&point)?;
    }
    Ok(())
}

impl Tree {
    fn clone_of(path: &Path) -> Result<Self, Failure> {
        let fail = |errno| Failure::on(Kind::LoadPath, "opening what is to be loaded", path)(errno);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, path, flags).map_err(fail)?;
        let status = rustix::fs::statx(&tree, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)
            .map_err(|errno| Failure::on(Kind::LoadPath, "looking at it", path)(errno))?;
        let kind = FileType::from_raw_mode(status.stx_mode.into());
        Ok(Self { path: normal(path), tree, is_directory: kind == FileType::Directory })
    }

    fn make_mount_point(&self) -> Result<PathBuf, Failure> {
        let point = staged(&self.path);
        if self.is_directory {
            make_directory(&point)?;
        } else {
            if let Some(parent) = point.parent() {
                make_directory(parent)?;
            }
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(&point, flags, Mode::from_raw_mode(0o444)).map_err(Failure::on(
                Kind::Confine,
                "making a mount point",
                &self.path,
            ))?;
        }
        Ok(point)
    }

    fn attach(&self, point: &Path) -> Result<(), Failure> {
        move_mount(&self.tree, c"", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(Failure::on(Kind::Confine, "mounting", &self.path))
    }
}

/// `path` without `.` and `..`, which would leave the stage. All paths here are chosen by the
/// monitor; this keeps an odd one harmless.
fn normal(path: &Path) -> PathBuf {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    });
    Path::new("/").join(names.collect::<PathBuf>())
}

fn staged(path: &Path) -> PathBuf {
    let mut staged = OsString::from(STAGE);
    staged.push(OsStr::from_bytes(path.as_os_str().as_bytes()));
    PathBuf::from(staged)
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let mut so_far = PathBuf::new();
    for component in path.components() {
        so_far.push(component);
        match rustix::fs::mkdir(&so_far, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Failure::on(Kind::Confine, "making a folder", path)(errno));
            }
        }
    }
    Ok(())
}
