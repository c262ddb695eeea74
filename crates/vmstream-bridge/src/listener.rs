//! Where a sender comes in.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::address::Address;
use crate::wire::Wire;

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
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept()?;
                Wire::of_tcp(stream, from.ip())
            }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn who_is_gone_before_he_is_let_in_is_no_fault_of_the_listeners() {
        let address: Address = "127.0.0.1:0".parse().expect("an address");
        let (listener, Address::Tcp(address)) = Listener::bind(&address).expect("bound") else {
            panic!("it is TCP");
        };
        let stranger = std::net::TcpStream::connect(address).expect("it listens");
        // The connection is reset, not ended.
        let at_once = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&stranger, at_once).expect("set");
        drop(stranger);

        listener.accept().expect("somebody was there");
    }
}
