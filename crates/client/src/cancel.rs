//! A request to give up, from another thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::Shutdown;

/// Ends operations from another thread, typically the one that waits for Ctrl-C.
///
/// A clone is the same request. Sockets that an operation waits on are shut down, so that it
/// returns at once, by its ordinary way, and cleans up after itself.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    next: AtomicU64,
    /// Met by the cancelling thread and by those that open and close sockets.
    watched: Mutex<Vec<(u64, OwnedFd)>>,
}

impl Cancel {
    /// A request that nobody has made yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the request.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        let watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, socket) in watched.iter() {
            shut(socket);
        }
    }

    /// Whether the request was made.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Has `socket` shut down, in both directions, when the request is made, or now if it was.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn watch(&self, socket: &impl AsFd) -> io::Result<Watch> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        let key = self.0.next.fetch_add(1, Ordering::Relaxed);
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a request made before this is seen here, one made after sees the entry.
        if self.is_requested() {
            shut(&copy);
        }
        watched.push((key, copy));
        Ok(Watch { key, cancel: self.clone() })
    }
}

/// Keeps a socket under a [`Cancel`]'s watch; dropping it lets the socket be closed for good.
#[derive(Debug)]
pub struct Watch {
    key: u64,
    cancel: Cancel,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.cancel.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(key, _)| *key != self.key);
    }
}

fn shut(socket: &OwnedFd) {
    // Not connected any more: then nobody waits on it.
    rustix::net::shutdown(socket, Shutdown::Both).ok();
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_waits_on_a_watched_socket_is_released() {
        let cancel = Cancel::new();
        let (mut ours, _theirs) = UnixStream::pair().expect("a pair");
        let _watch = cancel.watch(&ours).expect("watched");
        let reader = thread::spawn(move || ours.read(&mut [0]));

        cancel.request();

        assert_eq!(reader.join().expect("no panic").expect("no error"), 0);
    }

    #[test]
    fn a_socket_watched_after_the_request_is_shut_at_once() {
        let cancel = Cancel::new();
        cancel.request();
        let (mut ours, _theirs) = UnixStream::pair().expect("a pair");

        let _watch = cancel.watch(&ours).expect("watched");

        assert_eq!(ours.read(&mut [0]).expect("no error"), 0);
    }
}
