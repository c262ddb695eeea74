//! The connection between the two hosts.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::address::Address;

/// How long a host is waited for that does not answer.
const CONNECT: Duration = Duration::from_secs(20);
/// After so long without a word, the other host is asked whether it is there.
const IDLE: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged, or a host that is there may take nothing, in milliseconds.
const LOST: u32 = 120_000;

/// Bytes that wait in each end of a connection that does not leave the host; as Linux has it for sockets of its own.
const NEAR: usize = 200 << 10;

/// Bytes of all that the two may say before anything moves.
const SAID: u64 = 4 << 20;

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
                        Ok(stream) => return Self::of_tcp(stream, each.ip()),
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
        }
    }

    /// A guest that stands still waits for small messages; and a host that is gone must be noticed. The other side is not asked
    /// for: it may be gone already, which is its own business.
    pub(crate) fn of_tcp(stream: TcpStream, other_side: IpAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        if other_side.is_loopback() {
            // What waits there for long has left the processor's caches when it is read, and a guest that stands still waits.
            sockopt::set_socket_send_buffer_size(&stream, NEAR)?;
            sockopt::set_socket_recv_buffer_size(&stream, NEAR)?;
        }
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

    /// Takes what still comes, and writes nothing more. A connection that is closed with something unread is reset, and the
    /// other side then loses what it has not read.
    pub(crate) fn linger(&self, patience: Duration) {
        self.shutdown(Shutdown::Write);
        let deadline = Instant::now() + patience;
        let mut rest = vec![0; 64 << 10];
        let Ok(mut wire) = self.try_clone() else { return };
        while Instant::now() < deadline {
            match wire.set_read_patience(Some(patience)).and_then(|()| wire.read(&mut rest)) {
                // Where reading was ended, more can come all the same.
                Ok(0) => std::thread::sleep(Duration::from_millis(10)),
                Ok(_) => {}
                Err(_) => return,
            }
        }
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
}
