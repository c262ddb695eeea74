//! Unix SEQPACKET sockets that carry small messages and file descriptors.
//!
//! Both ends of a control socket use this: the client connects, the monitor listens. Paths may be
//! longer than the 107 bytes that fit into a socket address, because they are reached through
//! their directory's descriptor.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bandsox_proto::control::MAX_PACKET;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType,
};

/// Most descriptors that one packet may carry; surplus ones make the packet invalid and are closed.
pub const MAX_DESCRIPTORS: usize = 4;

/// One end of a connected SEQPACKET socket.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

/// A packet and the descriptors that came with it.
#[derive(Debug)]
pub struct Packet {
    /// The message, at most [`MAX_PACKET`] bytes.
    pub bytes: Vec<u8>,
    /// At most [`MAX_DESCRIPTORS`] descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a packet could not be sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The message does not fit into a packet.
    #[error("message of {length} bytes is over the limit of {MAX_PACKET}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// More descriptors than a packet may carry.
    #[error("packet has more than {MAX_DESCRIPTORS} descriptors")]
    TooManyDescriptors,
    /// The operating system refused.
    #[error("control socket failed")]
    Io(#[from] io::Error),
}

impl PacketSocket {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    ///
    /// As `connect(2)`: `NotFound` and `ConnectionRefused` mean that nobody serves the path.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        let (_directory, address) = short_address(path)?;
        rustix::net::connect(&socket, &address)?;
        Ok(Self { socket })
    }

    /// Makes two ends that are connected to each other.
    ///
    /// # Errors
    ///
    /// As `socketpair(2)`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, two) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: one }, Self { socket: two }))
    }

    /// Takes a socket that is connected already.
    #[must_use]
    pub fn from_fd(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The user id that the other end had when it connected or listened.
    ///
    /// # Errors
    ///
    /// As `getsockopt(2)`.
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(&self.socket)?.uid.as_raw())
    }

    /// Sends one packet with descriptors; the caller keeps its own copies of them.
    ///
    /// # Errors
    ///
    /// [`PacketError::TooLong`], [`PacketError::TooManyDescriptors`] before anything is sent;
    /// `BrokenPipe` if the other end has gone.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), PacketError> {
        if bytes.len() > MAX_PACKET {
            return Err(PacketError::TooLong { length: bytes.len() });
        }
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(PacketError::TooManyDescriptors);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let parts = [io::IoSlice::new(bytes)];
        retry(|| rustix::net::sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for the next packet; `None` if the other end has closed.
    ///
    /// # Errors
    ///
    /// [`PacketError::TooLong`] or [`PacketError::TooManyDescriptors`] if the other end sent what
    /// it must not; all descriptors that came are closed then.
    pub fn receive(&self) -> Result<Option<Packet>, PacketError> {
        let mut bytes = vec![0; MAX_PACKET];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let received = retry(|| {
            rustix::net::recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            other => other?,
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(PacketError::TooManyDescriptors);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(PacketError::TooLong { length: received.bytes });
        }
        if received.bytes == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        bytes.truncate(received.bytes);
        Ok(Some(Packet { bytes, descriptors }))
    }

    /// Waits until a packet or the end can be received; `false` if `timeout` passed first.
    ///
    /// # Errors
    ///
    /// As `poll(2)`.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        readable(self.socket.as_fd(), timeout)
    }

    /// Ends the conversation in both directions, also for a thread that waits in
    /// [`receive`](Self::receive).
    pub fn shutdown(&self) {
        // Fails only if the other end was first.
        rustix::net::shutdown(&self.socket, Shutdown::Both).ok();
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A SEQPACKET socket that takes connections at a path.
#[derive(Debug)]
pub struct PacketListener {
    socket: OwnedFd,
}

impl PacketListener {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// As `bind(2)`: `AddrInUse` if the path exists.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        let (_directory, address) = short_address(path)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 64)?;
        Ok(Self { socket })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// As `accept4(2)`.
    pub fn accept(&self) -> io::Result<PacketSocket> {
        let socket = retry(|| rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC))?;
        Ok(PacketSocket { socket })
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until `fd` is readable, at its end, or in error; `false` if `timeout` passed first.
pub(crate) fn readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut entries = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let limit = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
    Ok(retry(|| poll(&mut entries, Some(&limit)))? > 0)
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// An address for `path` that fits into `sockaddr_un` however long the path is; valid for as long
/// as the returned descriptor is open.
fn short_address(path: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if parent != OsStr::new("") => parent,
        _ => Path::new("."),
    };
    let directory = rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", raw(&directory))).join(name);
    let address = SocketAddrUnix::new(&short)?;
    Ok((directory, address))
}

fn raw(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd as _;
    fd.as_raw_fd()
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    #[test]
    fn a_path_longer_than_a_socket_address_is_reached() {
        let temporary = tempfile::tempdir().expect("a directory");
        let deep = temporary.path().join("d".repeat(120)).join("e".repeat(120));
        fs::create_dir_all(&deep).expect("directories");
        let path = deep.join("control.sock");
        let listener = PacketListener::bind(&path).expect("listens");

        let client = PacketSocket::connect(&path).expect("connects");
        let server = listener.accept().expect("accepts");
        client.send(b"hello", &[]).expect("sends");

        assert_eq!(server.receive().expect("receives").expect("a packet").bytes, b"hello");
        assert_eq!(server.peer_uid().expect("credentials"), rustix::process::getuid().as_raw());
    }

    #[test]
    fn a_descriptor_travels_with_its_packet() {
        let (one, two) = PacketSocket::pair().expect("a pair");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"content").expect("written");

        one.send(b"take", &[file.as_fd()]).expect("sends");
        let mut packet = two.receive().expect("receives").expect("a packet");

        let mut received = File::from(packet.descriptors.pop().expect("a descriptor"));
        received.rewind().expect("rewinds");
        let mut text = String::new();
        received.read_to_string(&mut text).expect("reads");
        assert_eq!(text, "content");
    }

    #[test]
    fn surplus_descriptors_are_refused_and_closed() {
        let (one, two) = PacketSocket::pair().expect("a pair");
        let file = tempfile::tempfile().expect("a file");
        let many = [file.as_fd(); MAX_DESCRIPTORS + 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let parts = [io::IoSlice::new(b"x")];
        rustix::net::sendmsg(&one, &parts, &mut control, SendFlags::empty()).expect("sends");

        let refused = two.receive();

        assert!(matches!(refused, Err(PacketError::TooManyDescriptors)), "{refused:?}");
    }

    #[test]
    fn the_end_of_the_other_side_is_no_packet() {
        let (one, two) = PacketSocket::pair().expect("a pair");
        drop(one);

        assert!(two.receive().expect("no error").is_none());
    }
}
