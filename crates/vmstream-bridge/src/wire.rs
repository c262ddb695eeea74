//! The connection between the two hosts.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// How long a host is waited for that does not answer.
const CONNECT: Duration = Duration::from_secs(20);
/// After so long without a word, the other host is asked whether it is there.
const IDLE: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged, in milliseconds.
const LOST: u32 = 30_000;

/// Bytes of all that the two may say before anything moves.
const SAID: u64 = 4 << 20;

/// Where a receiver is: `HOST:PORT`, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp(String),
    /// A socket of this host: the end of a tunnel, say.
    Unix(PathBuf),
}

/// Text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT, [ADDRESS]:PORT or unix:PATH")]
pub struct BadAddress;

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(BadAddress) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(BadAddress)?;
        let is_bare_v6 = host.contains(':') && !host.starts_with('[');
        if host.is_empty() || is_bare_v6 || port.parse::<u16>().is_err() {
            return Err(BadAddress);
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(text) => f.write_str(text),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Listens at a path, and takes it over from a program that was killed and left it behind.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let refused = UnixStream::connect(path).err();
            let refused = refused.is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            // Other files refuse, too.
            if refused && std::fs::symlink_metadata(path)?.file_type().is_socket() {
                std::fs::remove_file(path)?;
                return UnixListener::bind(path);
            }
            Err(error)
        }
        bound => bound,
    }
}

/// Waits for a sender.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens, without waiting for whoever comes. The address says which port it became, where 0 asked for any.
    pub(crate) fn bind(address: &Address) -> io::Result<(Self, Address)> {
        match address {
            Address::Tcp(text) => {
                let listener = TcpListener::bind(text)?;
                listener.set_nonblocking(true)?;
                let bound = Address::Tcp(listener.local_addr()?.to_string());
                Ok((Self::Tcp(listener), bound))
            }
            Address::Unix(path) => {
                let listener = listen(path)?;
                listener.set_nonblocking(true)?;
                Ok((Self::Unix(listener, path.clone()), address.clone()))
            }
        }
    }

    pub(crate) fn accept(&self) -> io::Result<Wire> {
        match self {
            Self::Tcp(listener) => Wire::of_tcp(listener.accept()?.0),
            Self::Unix(listener, _) => Ok(Wire::Unix(listener.accept()?.0)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Whoever removed it before does not mind.
            drop(std::fs::remove_file(path));
        }
    }
}

/// A connection. Clones are the same one.
#[derive(Debug)]
pub(crate) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    pub(crate) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            Address::Tcp(text) => {
                let mut failed = io::Error::from(io::ErrorKind::NotFound);
                for each in text.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&each, CONNECT) {
                        Ok(stream) => return Self::of_tcp(stream),
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
        }
    }

    /// A guest that stands still waits for small messages; and a host that is gone must be noticed.
    fn of_tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, IDLE)?;
        sockopt::set_tcp_keepintvl(&stream, IDLE)?;
        sockopt::set_tcp_user_timeout(&stream, LOST)?;
        Ok(Self::Tcp(stream))
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    /// How long reads wait.
    fn set_read_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(patience),
            Self::Unix(stream) => stream.set_read_timeout(patience),
        }
    }

    /// How long writes wait.
    pub(crate) fn set_write_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(patience),
            Self::Unix(stream) => stream.set_write_timeout(patience),
        }
    }

    /// Writes all of it in so much time, however little the other side takes at once.
    pub(crate) fn say(&self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut wire = self.try_clone()?;
        let (deadline, mut left) = (Instant::now() + patience, bytes);
        while !left.is_empty() {
            self.set_write_patience(Some(until(deadline, patience)?))?;
            match wire.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => left = left.get(taken..).unwrap_or_default(),
                Err(error) => expect_patience(error, patience)?,
            }
        }
        self.set_write_patience(None)
    }

    /// Has somebody read what is said in so much time, and not more than [`SAID`], however little comes at once.
    pub(crate) fn hear<T, E: From<io::Error>>(
        input: &mut BufReader<Self>,
        patience: Duration,
        read: impl FnOnce(&mut dyn Read) -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = Instant::now() + patience;
        let mut within = Within { input: &mut *input, deadline, patience, left: SAID };
        let heard = read(&mut within)?;
        input.get_ref().set_read_patience(None)?;
        Ok(heard)
    }

    /// Has reads end, for all clones.
    pub(crate) fn stop_reading(&self) {
        self.shutdown(Shutdown::Read);
    }

    /// Ends it, for all clones.
    pub(crate) fn shut(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn shutdown(&self, how: Shutdown) {
        // It may have ended by itself.
        drop(match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        });
    }
}

/// What is left of the time that somebody has.
fn until(deadline: Instant, patience: Duration) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late(patience)) } else { Ok(left) }
}

fn late(patience: Duration) -> io::Error {
    let late = format!("it took more than {} s", patience.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, late)
}

/// Whether to try again.
fn expect_patience(error: io::Error, patience: Duration) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(late(patience)),
        _ => Err(error),
    }
}

/// What somebody says who is not known yet.
struct Within<'a> {
    input: &'a mut BufReader<Wire>,
    deadline: Instant,
    patience: Duration,
    /// Bytes.
    left: u64,
}

impl Read for Within<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        if buffer.is_empty() {
            return Err(io::Error::other(format!("it says more than {} MiB", SAID >> 20)));
        }
        loop {
            let left = until(self.deadline, self.patience)?;
            self.input.get_ref().set_read_patience(Some(left))?;
            match self.input.read(buffer) {
                Ok(read) => {
                    self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
                    return Ok(read);
                }
                Err(error) => expect_patience(error, self.patience)?,
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Wire, BufReader<Wire>) {
        let (near, far) = UnixStream::pair().expect("a pair");
        (Wire::Unix(near), BufReader::new(Wire::Unix(far)))
    }

    fn all(input: &mut dyn Read) -> io::Result<usize> {
        input.read_to_end(&mut Vec::new())
    }

    #[test]
    fn who_says_a_byte_now_and_then_is_not_heard_for_ever() {
        let (mut near, mut far) = pair();
        let dribbles = std::thread::spawn(move || {
            while near.write_all(b"-").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let heard = Wire::hear(&mut far, Duration::from_secs(1), all);
        assert_eq!(heard.expect_err("it never ends").to_string(), "it took more than 1 s");
        drop(far);
        dribbles.join().expect("it ends");
    }

    #[test]
    fn who_says_nothing_and_who_takes_nothing_are_given_up() {
        let (near, mut far) = pair();
        let heard =
            Wire::hear(&mut far, Duration::from_millis(100), all).expect_err("nothing comes");
        assert_eq!(heard.kind(), io::ErrorKind::TimedOut);
        let said = near.say(&vec![0; 8 << 20], Duration::from_millis(100));
        assert_eq!(said.expect_err("nobody takes it").kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn who_says_too_much_is_not_heard_out() {
        let (mut near, mut far) = pair();
        let says = std::thread::spawn(move || while near.write_all(&[0; 4096]).is_ok() {});
        let heard = Wire::hear(&mut far, Duration::from_secs(60), all);
        assert_eq!(heard.expect_err("it never ends").to_string(), "it says more than 4 MiB");
        drop(far);
        says.join().expect("it ends");
    }

    #[test]
    fn a_socket_that_a_killed_program_left_is_taken_over_and_no_other_file_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let left = listen(&path).expect("it is free");
        assert_eq!(listen(&path).expect_err("it is not").kind(), io::ErrorKind::AddrInUse);
        drop(left);
        drop(listen(&path).expect("nobody listens there"));
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").expect("a file");
        assert_eq!(listen(&file).expect_err("it is a file").kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&file).expect("it is there"), b"mine");
    }

    #[test]
    fn addresses_are_told_from_what_is_none() {
        for text in ["10.0.0.1:4444", "host:1", "[::1]:4444", "unix:/run/a b"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        for text in ["", "host", "host:", ":1", "::1:4444", "host:65536", "unix:"] {
            assert_eq!(text.parse::<Address>(), Err(BadAddress), "{text}");
        }
    }
}
