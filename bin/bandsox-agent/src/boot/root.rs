//! The root file system, and what every program expects to find in it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::command_line::{BaseFs, Boot};
use super::disks::{self, NoDisk};
use crate::console::say;
use crate::shutdown::Disks;

const BASE: &str = "/base";
const OVERLAY: &str = "/overlay";
const ROOT: &str = "/root";

/// Open files per process: by default few, as old programs expect; as many as wanted for who asks.
const OPEN_FILES: (u64, u64) = (4096, 1_048_576);

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootError {
    /// A disk is missing.
    #[error(transparent)]
    NoDisk(#[from] NoDisk),
    /// A directory cannot be made.
    #[error("cannot make the directory {path}")]
    Directory {
        /// Which.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something cannot be mounted.
    #[error("cannot mount {what} ({file_system}) on {path}")]
    Mount {
        /// What.
        what: String,
        /// As what.
        file_system: &'static str,
        /// Where.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The root cannot be changed.
    #[error("cannot change to the new root")]
    Change(#[source] io::Error),
}

/// Mounts what booting itself needs.
pub(super) fn mount_kernel_file_systems() -> Result<(), RootError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mounted("proc", "proc", "/proc", flags | MountFlags::NODEV, "")?;
    mounted("sysfs", "sysfs", "/sys", flags | MountFlags::NODEV, "")?;
    mounted("devtmpfs", "devtmpfs", "/dev", flags, "mode=0755")
}

/// Makes the console the standard streams, if the kernel has not done so for want of a device node.
pub(super) fn open_console() {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    if let Ok(console) = rustix::fs::openat(CWD, "/dev/console", flags, Mode::empty()) {
        // Without a console there is nobody to tell.
        rustix::stdio::dup2_stdin(&console).ok();
        rustix::stdio::dup2_stdout(&console).ok();
        rustix::stdio::dup2_stderr(&console).ok();
    }
}

/// Puts the root together and enters it. Returns what must be whole when the guest goes down.
pub(super) fn enter(boot: &Boot) -> Result<Disks, RootError> {
    let base = disks::find("base", &boot.base)?;
    let overlay = disks::find("overlay", &boot.overlay)?;
    let (file_system, options) = match boot.base_fs {
        BaseFs::Erofs => ("erofs", ""),
        // Nothing is ever written to it, a dirty journal included.
        BaseFs::Ext4 => ("ext4", "noload"),
    };
    let (base, overlay) = (base.to_string_lossy(), overlay.to_string_lossy());
    mounted(&base, file_system, BASE, MountFlags::RDONLY, options)?;
    mounted(&overlay, "ext4", OVERLAY, MountFlags::empty(), "discard")?;
    for directory in ["/overlay/upper", "/overlay/work"] {
        make(directory)?;
    }
    // The base of a VM never changes, so that a renamed directory may refer to it; without, rename(2) fails.
    let options = "lowerdir=/base,upperdir=/overlay/upper,workdir=/overlay/work,redirect_dir=on";
    mounted("overlay", "overlay", ROOT, MountFlags::empty(), options)?;
    let open = |path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| RootError::Change(e.into()))
    };
    let disks = vec![open(ROOT)?, open(OVERLAY)?];
    change().map_err(|error| RootError::Change(error.into()))?;
    Ok(disks)
}

/// As switch_root(8) does: the initramfs cannot be unmounted, only covered.
fn change() -> Result<(), Errno> {
    rustix::process::chdir(ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

/// What programs expect, as far as the image leaves room for it: each by itself is dispensable.
pub(super) fn furnish() {
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let ends = MountFlags::NODEV;
    let no_flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounts = [
        ("proc", "proc", "/proc", flags | ends, ""),
        ("sysfs", "sysfs", "/sys", flags | ends, ""),
        ("devtmpfs", "devtmpfs", "/dev", flags, "mode=0755"),
        ("devpts", "devpts", "/dev/pts", flags, "mode=0620,gid=5,ptmxmode=0666"),
        ("tmpfs", "tmpfs", "/dev/shm", no_flags, "mode=1777"),
        ("tmpfs", "tmpfs", "/run", no_flags, "mode=0755"),
        ("cgroup2", "cgroup2", "/sys/fs/cgroup", flags | ends, ""),
    ];
    for (what, file_system, path, flags, options) in mounts {
        if let Err(error) = mounted(what, file_system, path, flags, options) {
            say(&bandsox_proto::chain(&error));
        }
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, link).ok();
    }
    // On the disk, not in memory: what is uploaded there may be large.
    if !Path::new("/tmp").exists() && fs::create_dir("/tmp").is_ok() {
        fs::set_permissions("/tmp", Permissions::from_mode(0o1777)).ok();
    }
}

/// Sets the host's name for the guest, or the image's own, and returns it.
pub(super) fn set_hostname(wanted: Option<&str>) -> String {
    let own = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let own = own.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let name = wanted.or(own).unwrap_or("bandsox");
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        say(&format!("cannot set the hostname {name:?}: {error}"));
    }
    name.to_owned()
}

/// Limits that commands inherit.
pub(super) fn set_limits() {
    let (current, maximum) = OPEN_FILES;
    let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
    setrlimit(Resource::Nofile, limit).ok();
}

fn mounted(
    what: &str,
    file_system: &'static str,
    path: &'static str,
    flags: MountFlags,
    options: &str,
) -> Result<(), RootError> {
    make(path)?;
    let options = std::ffi::CString::new(options).unwrap_or_default();
    match mount(what, path, file_system, flags, &*options) {
        // The kernel may have mounted it already (CONFIG_DEVTMPFS_MOUNT).
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => {
            let what = what.to_owned();
            Err(RootError::Mount { what, file_system, path, source: error.into() })
        }
    }
}

fn make(path: &'static str) -> Result<(), RootError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| RootError::Directory { path, source })
}
