//! Where everything lies below the storage directory.

use std::path::{Path, PathBuf};

use bandsox_spec::VmId;

/// Where everything lies below one storage directory. Says where, not whether it is there.
///
/// A socket's path may well be longer than the 107 bytes that `sockaddr_un` holds: bind and connect
/// through `/proc/self/fd/<directory>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The layout below `root`, which should be absolute.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The storage directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Read-only base images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The guest's kernel and initramfs.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.root.join("kernel")
    }

    /// Saved states.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Writable disks, and the templates that they are made from.
    #[must_use]
    pub fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    /// The writable disk of one VM.
    #[must_use]
    pub fn disk(&self, id: &VmId) -> PathBuf {
        self.disks().join(format!("{id}.ext4"))
    }

    /// Socket directories of all VMs.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.root.join("sockets")
    }

    /// The directory of one VM's sockets; there while it runs.
    #[must_use]
    pub fn socket_dir(&self, id: &VmId) -> PathBuf {
        self.sockets().join(id.as_str())
    }

    /// Where one VM's monitor takes commands.
    #[must_use]
    pub fn control_socket(&self, id: &VmId) -> PathBuf {
        self.socket_dir(id).join("control.sock")
    }

    /// Where other programs reach one guest's vsock ports, in Firecracker's way.
    #[must_use]
    pub fn vsock_socket(&self, id: &VmId) -> PathBuf {
        self.socket_dir(id).join("vsock.sock")
    }

    /// Log directories of all VMs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The directory of one VM's logs.
    #[must_use]
    pub fn log_dir(&self, id: &VmId) -> PathBuf {
        self.logs().join(id.as_str())
    }

    /// What one guest's kernel and console printed.
    #[must_use]
    pub fn console_log(&self, id: &VmId) -> PathBuf {
        self.log_dir(id).join("console.log")
    }

    /// What one VM's monitor had to say.
    #[must_use]
    pub fn monitor_log(&self, id: &VmId) -> PathBuf {
        self.log_dir(id).join("monitor.log")
    }

    /// Metadata of all VMs.
    #[must_use]
    pub fn metadata_dir(&self) -> PathBuf {
        self.root.join("metadata")
    }

    /// The metadata of one VM.
    #[must_use]
    pub fn metadata(&self, id: &VmId) -> PathBuf {
        self.metadata_dir().join(format!("{id}.json"))
    }

    /// What marks a VM whose removal has begun and must be finished.
    pub(crate) fn tombstone(&self, id: &VmId) -> PathBuf {
        self.metadata_dir().join(format!("{TOMBSTONE_PREFIX}{id}"))
    }

    /// Lock files.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The file that one VM's monitor keeps locked for as long as it lives.
    #[must_use]
    pub fn lock(&self, id: &VmId) -> PathBuf {
        self.locks().join(format!("{id}.lock"))
    }

    /// The lock under which anything in the storage directory is changed.
    #[must_use]
    pub fn store_lock(&self) -> PathBuf {
        self.locks().join("store.lock")
    }

    /// Which CID is next.
    #[must_use]
    pub fn cid_allocator(&self) -> PathBuf {
        self.root.join("cid_allocator.json")
    }

    /// Which port is next and which are taken.
    #[must_use]
    pub fn port_allocator(&self) -> PathBuf {
        self.root.join("port_allocator.json")
    }

    /// Every directory of the layout, the storage directory first.
    pub(crate) fn directories(&self) -> [PathBuf; 9] {
        [
            self.root.clone(),
            self.images(),
            self.kernel(),
            self.snapshots(),
            self.disks(),
            self.sockets(),
            self.logs(),
            self.metadata_dir(),
            self.locks(),
        ]
    }
}

/// Begins the name of a [`Paths::tombstone`]; the rest is the VM's id.
pub(crate) const TOMBSTONE_PREFIX: &str = ".removing-";
