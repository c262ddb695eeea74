//! From a VM's metadata to the machine that an engine runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use bandsox_engine::{Disk, GuestRam, GuestRamError, MachineSpec, SerialLink};
use bandsox_image::base::{Base, ChangedError, Identity, PrepareError};
use bandsox_image::kernel::{BOOT_ARGUMENTS, Kernel, LoadError};
use bandsox_image::overlay;
use bandsox_proto::control::Transport;
use bandsox_spec::{SizeError, is_host_name};
use bandsox_store::{Metadata, Store};

/// The monitor's ends of the machine's lines.
pub(crate) struct Lines {
    /// The kernel's console.
    pub(crate) console: UnixStream,
    /// virtio-serial port of the fallback link.
    pub(crate) port: UnixStream,
    /// UART of the fallback link.
    pub(crate) uart: UnixStream,
}

/// Why a VM's machine could not be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// There is no kernel.
    #[error("the guest's kernel cannot be used")]
    Kernel(#[from] LoadError),
    /// The metadata do not name an image.
    #[error("the VM's metadata have no rootfs_path")]
    NoBase,
    /// The image cannot be used.
    #[error("the VM's base image cannot be used")]
    Base(#[from] PrepareError),
    /// The image is not what it was.
    #[error(transparent)]
    Changed(#[from] ChangedError),
    /// The metadata hold an impossible size.
    #[error("the VM's metadata hold an impossible size")]
    Size(#[from] SizeError),
    /// There is no disk, and it cannot be made.
    #[error("the VM's disk cannot be made")]
    Overlay(#[from] overlay::CreateError),
    /// The disk cannot be opened.
    #[error("the VM's disk {} cannot be opened", path.display())]
    Disk {
        /// Where it is.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No memory.
    #[error("guest memory cannot be made")]
    Ram(#[from] GuestRamError),
    /// No sockets.
    #[error("the machine's lines cannot be made")]
    Line(#[from] io::Error),
}

/// Puts the machine together. `vsock` is the device's end for the engine; `port` the agent's vsock port.
pub(crate) fn build(
    store: &Store,
    metadata: &Metadata,
    kernel: &Kernel,
    vsock: Option<(OwnedFd, u32)>,
) -> Result<(MachineSpec, Lines), BuildError> {
    let rootfs = metadata.rootfs_path().ok_or(BuildError::NoBase)?;
    let (base, base_file) = Base::open(rootfs)?;
    if let Some(recorded) = metadata.base_identity()
        && let Ok(recorded) = serde_json::from_value::<Identity>(recorded.clone())
    {
        base.verify_unchanged(&recorded)?;
    }
    if base.dirty_journal {
        tracing::warn!(
            image = %base.path.display(),
            "the image was not unmounted cleanly; its journal is not replayed"
        );
    }
    let overlay = open_overlay(store, metadata)?;
    let (console, console_theirs) = UnixStream::pair()?;
    let (port, port_theirs) = UnixStream::pair()?;
    let (uart, uart_theirs) = UnixStream::pair()?;
    let (vsock, vsock_port) = vsock.unzip();
    let machine = MachineSpec {
        vcpus: metadata.vcpus()?.get(),
        ram: GuestRam::new(metadata.mem_mib()?.get())?,
        kernel: kernel.kernel.clone(),
        initrd: kernel.initramfs.clone(),
        cmdline: command_line(metadata, &base, vsock_port),
        base: Disk { file: base_file },
        overlay: Disk { file: overlay },
        console: console_theirs.into(),
        serial: SerialLink { port: port_theirs.into(), uart: uart_theirs.into() },
        vsock,
    };
    Ok((machine, Lines { console, port, uart }))
}

/// Opens the VM's writable disk. One that never existed (metadata of older versions) is made.
fn open_overlay(store: &Store, metadata: &Metadata) -> Result<File, BuildError> {
    let recorded = metadata.overlay_path();
    let path = recorded.map_or_else(|| store.paths().disk(metadata.id()), PathBuf::from);
    let open = || OpenOptions::new().read(true).write(true).open(&path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && recorded.is_none() => {
            let mib = u64::from(metadata.disk_size_mib()?.get());
            overlay::create(&path, mib, &store.paths().disks())?;
            open()
        }
        result => result,
    }
    .map_err(|source| BuildError::Disk { path, source })
}

fn command_line(metadata: &Metadata, base: &Base, vsock_port: Option<u32>) -> String {
    let transport = match vsock_port {
        Some(_) => Transport::Vsock,
        None => Transport::Serial,
    };
    let of_image = metadata.image_config().hostname;
    let names = [metadata.name(), of_image.as_deref()].into_iter().flatten();
    let hostname = names.into_iter().find(|name| is_host_name(name));
    let hostname = hostname.unwrap_or(metadata.id().as_str());
    let mut line = format!(
        "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on {BOOT_ARGUMENTS} bandsox.transport={} \
         bandsox.base_fs={} bandsox.hostname={hostname}",
        crate::agent::name(transport),
        base.format,
    );
    if let Some(port) = vsock_port {
        line.push_str(&format!(" bandsox.port={port}"));
    }
    line
}
