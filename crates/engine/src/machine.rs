//! The machine that an engine is asked to run.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::ram::GuestRam;

/// A guest machine, complete: whoever holds one can start it without asking anything further.
///
/// Descriptors are owned and end up in the engine's process; the caller keeps its own
/// duplicates of what it still needs.
#[derive(Debug)]
pub struct MachineSpec {
    /// Number of virtual CPUs, at least 1.
    pub vcpus: u32,
    /// Guest RAM. Its size is the machine's memory size.
    pub ram: GuestRam,
    /// Kernel image: an ELF `vmlinux` with a PVH note, or a bzImage. World-readable, since the
    /// engine's process opens it under its own user.
    pub kernel: PathBuf,
    /// Initial RAM file system. World-readable like the kernel.
    pub initrd: PathBuf,
    /// Kernel command line, as the guest sees it.
    pub cmdline: String,
    /// The base file system, read-only, shared between machines; virtio-blk serial `base`.
    pub base: Disk,
    /// The machine's own writable disk; virtio-blk serial `overlay`.
    pub overlay: Disk,
    /// One end of a stream socket pair: the guest's first UART, the kernel's console.
    pub console: OwnedFd,
    /// The fallback link to the agent.
    pub serial: SerialLink,
    /// The front-end's end of a vhost-user socket pair of the vsock device, or `None` for a
    /// machine without vsock. Its place stays free, so a device can be plugged later.
    pub vsock: Option<OwnedFd>,
}

/// A raw disk image, open.
#[derive(Debug)]
pub struct Disk {
    /// The open file; read-only for a base, read-write for an overlay. Its content is always
    /// taken as raw bytes, never probed for a format.
    pub file: File,
}

/// The two serial devices that can carry the agent's fallback link, each one end of a stream
/// socket pair.
#[derive(Debug)]
pub struct SerialLink {
    /// virtio-serial port `org.bandsox.agent`.
    pub port: OwnedFd,
    /// Second UART (`/dev/ttyS1`), for guests without the virtio driver.
    pub uart: OwnedFd,
}
