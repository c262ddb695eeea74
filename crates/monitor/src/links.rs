//! Channels to the agent, over vsock or over the serial line.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bandsox_proto::control::Transport;
use bandsox_proto::mux::{self, Arrival, Hangup, Link, Role};
use bandsox_proto::v2::Segment;
use xxhash_rust::xxh64::Xxh64;

use crate::transfer;

/// How long a channel may take to open. A guest that is busy under emulation answers late.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// Ways to the agent. Shared by the threads of all clients.
pub(crate) struct Links {
    vsock: Option<Vsock>,
    serial: Serial,
    /// What the agent said hello over. Set by the driver, read by the clients' threads.
    preferred: Mutex<Option<Transport>>,
}

/// The vsock device and the port that the agent listens on.
pub(crate) struct Vsock {
    pub(crate) device: bandsox_vsock::Handle,
    pub(crate) port: u32,
}

/// The serial line: two devices can carry it, and the guest chooses one.
#[derive(Clone)]
pub(crate) struct Serial {
    /// The link that came up last. Set by the links' threads, read by the clients' threads.
    active: Arc<Mutex<Option<Link>>>,
}

/// Why no channel could be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The VM has no vsock device, or its guest has no driver for it.
    #[error("this VM runs over serial; vsock is not there")]
    NoVsock,
    /// vsock does not work.
    #[error("Vsock connection failed")]
    Vsock(#[source] bandsox_vsock::ConnectError),
    /// The serial line does not work.
    #[error("the serial line to the guest failed")]
    Serial(#[source] mux::OpenError),
    /// The guest has not opened the serial line.
    #[error("the guest has not opened the serial line")]
    NoSerial,
}

impl Links {
    pub(crate) fn new(vsock: Option<Vsock>, serial: Serial) -> Self {
        Self { vsock, serial, preferred: Mutex::new(None) }
    }

    /// From now on, channels go over `transport` unless asked otherwise.
    pub(crate) fn prefer(&self, transport: Transport) {
        *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = Some(transport);
    }

    /// What channels go over, once the agent has said hello.
    pub(crate) fn preferred(&self) -> Option<Transport> {
        *self.preferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a channel: over `wanted`, or over whatever works, vsock first.
    pub(crate) fn open(&self, wanted: Option<Transport>) -> Result<Channel, OpenError> {
        let deadline = Instant::now() + OPEN_WITHIN;
        match wanted.or(self.preferred()) {
            Some(Transport::Vsock) => match self.open_vsock(deadline) {
                Err(error) if wanted.is_none() => {
                    tracing::warn!(error = %bandsox_proto::chain(&error), "Vsock connection failed; using serial");
                    self.open_serial(deadline)
                }
                result => result,
            },
            Some(Transport::Serial) | None => self.open_serial(deadline),
        }
    }

    fn open_vsock(&self, deadline: Instant) -> Result<Channel, OpenError> {
        let Vsock { device, port } = self.vsock.as_ref().ok_or(OpenError::NoVsock)?;
        if self.preferred() == Some(Transport::Serial) {
            return Err(OpenError::NoVsock);
        }
        device.connect(*port, deadline).map(Channel::Vsock).map_err(OpenError::Vsock)
    }

    fn open_serial(&self, deadline: Instant) -> Result<Channel, OpenError> {
        let link = self.serial.wait(deadline)?;
        link.open(deadline).map(Channel::Serial).map_err(OpenError::Serial)
    }
}

impl Serial {
    pub(crate) fn new() -> Self {
        Self { active: Arc::new(Mutex::new(None)) }
    }

    /// Starts to listen on one of the two devices. `control` gets the agent's control stream.
    pub(crate) fn attach(
        &self,
        line: OwnedFd,
        epoch: u32,
        control: impl Fn(UnixStream) + Send + 'static,
    ) -> io::Result<()> {
        let active = Arc::clone(&self.active);
        let own: Arc<Mutex<Option<Link>>> = Arc::default();
        let own_later = Arc::clone(&own);
        let link =
            Link::start(line, Role::Host, Hangup::Ends, epoch, move |arrival| match arrival {
                Arrival::Control(socket) => {
                    let link = own_later.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    *active.lock().unwrap_or_else(PoisonError::into_inner) = link;
                    control(socket);
                }
                // The agent opens no streams of its own.
                Arrival::Stream(socket) => drop(socket),
            })?;
        *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
        Ok(())
    }

    /// The link that the guest chose; it opens it a moment after it has said hello over vsock.
    fn wait(&self, deadline: Instant) -> Result<Link, OpenError> {
        loop {
            let active = self.active.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match active {
                Some(link) => return Ok(link),
                None if Instant::now() >= deadline => return Err(OpenError::NoSerial),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// A byte stream to the agent.
pub(crate) enum Channel {
    /// One vsock connection.
    Vsock(bandsox_vsock::Stream),
    /// One stream of the serial mux.
    Serial(UnixStream),
}

impl Channel {
    /// What it runs over.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Vsock(_) => Transport::Vsock,
            Self::Serial(_) => Transport::Serial,
        }
    }

    /// Our end of its socket pair.
    pub(crate) fn socket(&self) -> &UnixStream {
        match self {
            Self::Vsock(stream) => stream.socket(),
            Self::Serial(socket) => socket,
        }
    }

    /// Gives the socket away.
    pub(crate) fn into_socket(self) -> UnixStream {
        match self {
            Self::Vsock(stream) => stream.into_socket(),
            Self::Serial(socket) => socket,
        }
    }

    /// Sends the data of `segments`, after everything that was written to the socket before; returns its hash.
    pub(crate) fn send_file(
        &mut self,
        file: &File,
        segments: &[Segment],
        progress: &AtomicU64,
    ) -> io::Result<u64> {
        match self {
            Self::Vsock(stream) => {
                stream.send_file(file, &spans(segments), progress).map_err(io::Error::other)
            }
            Self::Serial(socket) => {
                let mut hash = Xxh64::new(0);
                for segment in segments {
                    transfer::copy_out(&mut &*socket, file, *segment, &mut hash, progress)?;
                }
                Ok(hash.digest())
            }
        }
    }

    /// Writes `go`, then takes what comes next into the `segments` of `file`; returns its hash.
    pub(crate) fn receive_file(
        &mut self,
        go: &[u8],
        file: &File,
        segments: &[Segment],
        progress: &AtomicU64,
    ) -> io::Result<u64> {
        match self {
            Self::Vsock(stream) => {
                stream.receive_file(go, file, &spans(segments), progress).map_err(io::Error::other)
            }
            Self::Serial(socket) => {
                socket.write_all(go)?;
                let mut hash = Xxh64::new(0);
                for segment in segments {
                    transfer::copy_in(&mut &*socket, file, *segment, &mut hash, progress)?;
                }
                Ok(hash.digest())
            }
        }
    }
}

fn spans(segments: &[Segment]) -> Vec<(u64, u64)> {
    segments.iter().map(|segment| (segment.offset, segment.len)).collect()
}
