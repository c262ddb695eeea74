//! The guest's ports on Unix sockets, in Firecracker's manner.
//!
//! Source: Firecracker, `docs/vsock.md`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::poller::{Poller, Token};

/// One served socket.
pub(crate) struct UnixServer {
    listener: OwnedFd,
    dir: OwnedFd,
    name: OsString,
}

impl UnixServer {
    /// Binds `dir/name`, readable and writable by the owner only.
    pub(crate) fn bind(dir: OwnedFd, name: &Path) -> io::Result<Self> {
        let name = name.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        match rustix::fs::unlinkat(&dir, &name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let listener = socket()?;
        rustix::net::bind(&listener, &address(&dir, &name)?)?;
        rustix::fs::chmodat(&dir, &name, Mode::from_raw_mode(0o600), AtFlags::empty())?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self { listener, dir, name })
    }

    /// Connects to `dir/name_port`, where somebody may take the guest's connections.
    fn connect(&self, port: u32) -> io::Result<OwnedFd> {
        let mut name = self.name.clone();
        name.push(format!("_{port}"));
        let client = socket()?;
        rustix::net::connect(&client, &address(&self.dir, &name)?)?;
        Ok(client)
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty()).ok();
    }
}

/// All served sockets, and clients that have not said yet which port they want.
#[derive(Default)]
pub(crate) struct UnixServers {
    servers: HashMap<u64, UnixServer>,
    clients: HashMap<u32, Client>,
    next_client: u32,
}

struct Client {
    socket: OwnedFd,
    deadline: Instant,
}

/// A client has asked for a port of the guest.
pub(crate) struct Wish {
    pub(crate) client: UnixStream,
    pub(crate) guest_port: u32,
}

impl UnixServers {
    pub(crate) fn add(
        &mut self,
        ticket: u64,
        server: UnixServer,
        poller: &Poller,
    ) -> io::Result<()> {
        let token = u32::try_from(ticket).map_err(|_| io::ErrorKind::InvalidInput)?;
        poller.add(&server.listener, Token::Server(token))?;
        self.servers.insert(ticket, server);
        Ok(())
    }

    pub(crate) fn remove(&mut self, ticket: u64) {
        self.servers.remove(&ticket);
    }

    /// Accepts whoever waits at a server.
    pub(crate) fn accept(&mut self, server: u32, poller: &Poller, now: Instant) {
        let Some(server) = self.servers.get(&u64::from(server)) else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&server.listener, flags) {
            if self.clients.len() >= MOST_CLIENTS {
                continue;
            }
            let number = self.next_client;
            self.next_client = self.next_client.wrapping_add(1);
            if poller.add(&socket, Token::Client(number)).is_ok() {
                self.clients.insert(number, Client { socket, deadline: now + PATIENCE });
            }
        }
    }

    /// Reads what a client has to say. A wish ends its stay here; so does nonsense.
    pub(crate) fn hear(&mut self, number: u32, poller: &Poller) -> Option<Wish> {
        let client = self.clients.get(&number)?;
        match read_wish(&client.socket) {
            Ok(None) => None,
            Ok(Some(guest_port)) => {
                let client = self.clients.remove(&number)?;
                poller.remove(&client.socket);
                Some(Wish { client: client.socket.into(), guest_port })
            }
            Err(_) => {
                self.clients.remove(&number);
                None
            }
        }
    }

    /// Connects the guest to whoever serves one of its host ports, if anybody does.
    pub(crate) fn connect(&self, host_port: u32) -> Option<OwnedFd> {
        self.servers.values().find_map(|server| server.connect(host_port).ok())
    }

    /// Drops clients that say nothing. Returns when the next one's time is up.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.clients.retain(|_, client| client.deadline > now);
        self.clients.values().map(|client| client.deadline).min()
    }
}

/// Tells a client that the guest has accepted.
pub(crate) fn confirm(client: &UnixStream, host_port: u32) -> io::Result<()> {
    let line = format!("OK {host_port}\n");
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = rustix::net::send(client, line.as_bytes(), flags)?;
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Reads `CONNECT <port>\n` and not a byte more; `None` while it is incomplete.
pub(crate) fn read_wish(socket: &OwnedFd) -> io::Result<Option<u32>> {
    let mut line = [0; LONGEST_WISH];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let seen = match rustix::net::recv(socket, &mut line, flags) {
        Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok((seen, _)) => line.get(..seen).unwrap_or_default(),
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        let too_long = seen.len() == LONGEST_WISH;
        return if too_long { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
    };
    let wish = seen.get(..end).unwrap_or_default();
    let port = parse_wish(wish).ok_or(io::ErrorKind::InvalidData)?;
    let mut taken = [0; LONGEST_WISH];
    let taken = taken.get_mut(..=end).unwrap_or_default();
    rustix::net::recv(socket, taken, RecvFlags::DONTWAIT)?;
    Ok(Some(port))
}

fn parse_wish(line: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
    let (verb, port) = text.split_once(' ')?;
    if !verb.eq_ignore_ascii_case("connect") {
        return None;
    }
    port.trim().parse().ok()
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// A socket's address by its directory's descriptor: 108 bytes are enough for any directory.
fn address(dir: &OwnedFd, name: &OsStr) -> io::Result<SocketAddrUnix> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    Ok(SocketAddrUnix::new(path)?)
}

/// Clients that may be undecided at once.
const MOST_CLIENTS: usize = 64;

/// How long one may be.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the longest line that means something, with room for spaces.
const LONGEST_WISH: usize = 32;

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connect_line_with_a_port_is_understood() {
        assert_eq!(parse_wish(b"CONNECT 9000"), Some(9000));
        assert_eq!(parse_wish(b"connect 4294967295"), Some(u32::MAX));
        assert_eq!(parse_wish(b"CONNECT 4294967296"), None);
        assert_eq!(parse_wish(b"CONNECT"), None);
        assert_eq!(parse_wish(b"GET / HTTP/1.1"), None);
        assert_eq!(parse_wish(b"CONNECT \xff"), None);
    }
}
