//! The start of a conversation with a monitor.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bandsox_proto::control::{ClientHello, MonitorHello, VERSION, Versions};

use super::Monitor;
use crate::packet::{PacketError, PacketSocket};

/// How long a monitor may take to say hello; one that is alive does at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);

/// Why no conversation with a monitor came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody serves the socket: the VM has no monitor.
    #[error("no monitor listens at {}", path.display())]
    NotServed {
        /// The control socket.
        path: PathBuf,
    },
    /// The process that serves the socket belongs to somebody else.
    #[error("{} is served by user {uid}, who is neither root nor this user", path.display())]
    ForeignPeer {
        /// The control socket.
        path: PathBuf,
        /// That process's user.
        uid: u32,
    },
    /// The monitor closed the connection or said nothing.
    #[error("the monitor at {} does not answer", path.display())]
    Silent {
        /// The control socket.
        path: PathBuf,
    },
    /// The monitor's greeting makes no sense.
    #[error("the monitor at {} does not speak this protocol", path.display())]
    Foreign {
        /// The control socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The monitor chose a version that was not offered.
    #[error("the monitor speaks version {found} of the control protocol, this program {VERSION}")]
    Version {
        /// The monitor's.
        found: u32,
    },
    /// The operating system refused.
    #[error("cannot talk to the monitor at {}", path.display())]
    Packet {
        /// The control socket.
        path: PathBuf,
        /// Why.
        source: PacketError,
    },
}

impl Monitor {
    /// Connects to the control socket at `path`, however long the path is.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        let owned = || path.to_path_buf();
        let failed = |source| ConnectError::Packet { path: owned(), source };
        let socket = PacketSocket::connect(path).map_err(|error| {
            let unserved = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            if unserved.contains(&error.kind()) {
                ConnectError::NotServed { path: owned() }
            } else {
                failed(error.into())
            }
        })?;
        let uid = socket.peer_uid().map_err(|error| failed(error.into()))?;
        let own = rustix::process::geteuid();
        if uid != 0 && uid != own.as_raw() && !own.is_root() {
            return Err(ConnectError::ForeignPeer { path: owned(), uid });
        }
        Self::greet(socket, path)
    }

    /// Starts a conversation on a connected socket; `path` is for messages.
    pub(crate) fn greet(socket: PacketSocket, path: &Path) -> Result<Self, ConnectError> {
        let owned = || path.to_path_buf();
        let failed = |source| ConnectError::Packet { path: owned(), source };
        let foreign = |source| ConnectError::Foreign { path: owned(), source };
        let hello = ClientHello { hello: Versions { versions: vec![VERSION] } };
        let hello = serde_json::to_vec(&hello).map_err(foreign)?;
        socket.send(&hello, &[]).map_err(failed)?;
        if !socket.wait(HELLO_TIMEOUT).map_err(|error| failed(error.into()))? {
            return Err(ConnectError::Silent { path: owned() });
        }
        let packet = socket.receive().map_err(failed)?;
        let packet = packet.ok_or_else(|| ConnectError::Silent { path: owned() })?;
        let MonitorHello { hello } = serde_json::from_slice(&packet.bytes).map_err(foreign)?;
        if hello.version != VERSION {
            return Err(ConnectError::Version { found: hello.version });
        }
        Ok(Self { socket, vm: hello.vm, version: hello.monitor, last_id: 0 })
    }
}
