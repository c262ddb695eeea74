//! Sockets to the host.
// UNSAFETY: neither std nor rustix knows the address and the options of AF_VSOCK, so they are spelled out here.
#![expect(unsafe_code, reason = "see the UNSAFETY note above")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::time::Duration;

use bandsox_proto::chain;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType, acceptfrom_with};

use crate::agent::Agent;
use crate::console::say;
use crate::server;

/// Any address of this guest (`VMADDR_CID_ANY`), so that a new CID after a restore needs nothing.
const CID_ANY: u32 = u32::MAX;

/// The host (`VMADDR_CID_HOST`).
const CID_HOST: u32 = 2;

/// Room for data in flight per connection: with the kernel's 256 KiB the two sides wait for each other's credit.
const BUFFER: u64 = 1024 * 1024;

/// `SO_VM_SOCKETS_BUFFER_SIZE`. Source: linux/vm_sockets.h.
const BUFFER_SIZE: i32 = 0;

/// `SO_VM_SOCKETS_BUFFER_MAX_SIZE`. Source: linux/vm_sockets.h.
const BUFFER_MAX_SIZE: i32 = 2;

/// A wish to listen on another port, and where to answer.
struct Move {
    port: u32,
    done: SyncSender<io::Result<()>>,
}

/// Where connections' threads ask for another port.
pub(crate) struct Port {
    wishes: Sender<Move>,
    bell: Arc<OwnedFd>,
}

/// Where the listening thread hears of it.
pub(crate) struct Moves {
    wanted: Receiver<Move>,
    bell: Arc<OwnedFd>,
}

impl Port {
    /// Both ends.
    pub(crate) fn new() -> io::Result<(Self, Moves)> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (wishes, wanted) = channel();
        Ok((Self { wishes, bell: Arc::clone(&bell) }, Moves { wanted, bell }))
    }

    /// Has the agent listen on `port`, and on no other.
    pub(crate) fn change(&self, port: u32) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        self.wishes.send(Move { port, done }).map_err(|_| gone())?;
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes())?;
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }
}

/// `struct sockaddr_vm`.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

const _: () = assert!(size_of::<Address>() == size_of::<libc::sockaddr_vm>());

impl Address {
    fn new(cid: u32, port: u32) -> Self {
        let family = AddressFamily::VSOCK.as_raw();
        Self { family, reserved: 0, port, cid, zero: [0; 4] }
    }
}

// SAFETY: the pointer is to a whole `Address`, laid out as sockaddr_vm, alive through the call, with its true length.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f((&raw const *self).cast(), u32::try_from(size_of::<Self>()).unwrap_or(0))
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?;
    for option in [BUFFER_MAX_SIZE, BUFFER_SIZE] {
        let value = BUFFER;
        let len = u32::try_from(size_of::<u64>()).unwrap_or(0);
        // SAFETY: the option's value is the eight bytes of `value`, alive through the call. Should the kernel refuse,
        // the connection has less room, and works.
        unsafe {
            let value = (&raw const value).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::AF_VSOCK, option, value, len);
        }
    }
    Ok(socket)
}

/// Listens on `port`, for any address of this guest.
pub(crate) fn listen(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::bind(&socket, &Address::new(CID_ANY, port))?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Attempts to connect. The kernel gives up after two seconds (`VSOCK_DEFAULT_CONNECT_TIMEOUT`, `net/vmw_vsock/af_vsock.c`),
/// and a busy host may take longer to answer.
const ATTEMPTS: u32 = 10;

/// Connects to a port of the host.
pub(crate) fn connect(port: u32) -> io::Result<File> {
    let address = Address::new(CID_HOST, port);
    let mut left = ATTEMPTS;
    loop {
        let socket = socket()?;
        left = left.saturating_sub(1);
        match rustix::net::connect(&socket, &address) {
            Err(Errno::TIMEDOUT) if left > 0 => {}
            connected => return connected.map(|()| File::from(socket)).map_err(io::Error::from),
        }
    }
}

/// Takes connections from `listener`, and moves to another port when told to, for ever.
pub(crate) fn serve(agent: &Arc<Agent>, listener: OwnedFd, port: u32, moves: &Moves) {
    let mut listening = (listener, port);
    loop {
        let mut fds =
            [PollFd::new(&listening.0, PollFlags::IN), PollFd::new(&moves.bell, PollFlags::IN)];
        let ready = match poll(&mut fds, None) {
            Ok(_) => fds.map(|fd| !fd.revents().is_empty()),
            Err(_) => continue,
        };
        if ready[1] {
            rustix::io::read(&moves.bell, &mut [0; 8]).ok();
            for Move { port, done } in moves.wanted.try_iter() {
                done.send(go_to(port, &mut listening)).ok();
            }
        } else if ready[0] {
            match acceptfrom_with(&listening.0, SocketFlags::CLOEXEC) {
                Ok((socket, _)) => server::spawn(agent, File::from(socket)),
                Err(error) => {
                    say(&format!("cannot accept a connection: {}", chain(&io::Error::from(error))));
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

fn go_to(port: u32, listening: &mut (OwnedFd, u32)) -> io::Result<()> {
    if port != listening.1 {
        *listening = (listen(port)?, port);
    }
    Ok(())
}
