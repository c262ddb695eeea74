//! One who looks on, and what waits for him.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Bytes that wait for one onlooker. One who is slower is left behind: the guest does not wait for him.
const WAITING: usize = 16 << 20;

/// One of so many that there are; free when it is dropped.
pub(crate) type Seat = Arc<()>;

/// What waits for one onlooker, who takes it as fast as he can.
pub(crate) struct Queue {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Default)]
pub(crate) struct Shared {
    /// Of the onlooker, to end a write that he does not take.
    socket: Option<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Nothing more comes.
    is_over: bool,
    /// He takes no more.
    is_gone: bool,
    /// He has all, or takes no more: his thread is ending.
    is_done: bool,
}

impl Queue {
    pub(crate) fn start(mut onlooker: UnixStream, seat: Seat) -> io::Result<Self> {
        let socket = Some(onlooker.try_clone()?);
        let shared = Arc::new(Shared { socket, ..Shared::default() });
        let taken = Arc::clone(&shared);
        thread::Builder::new().name("onlooker".to_owned()).spawn(move || {
            let _seat = seat;
            let mut is_gone = false;
            while !is_gone && let Some(piece) = taken.next() {
                is_gone = onlooker.write_all(&piece).is_err();
            }
            taken.shut();
            let mut state = taken.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.is_gone, state.is_done) = (is_gone, true);
            // Nobody takes them any more.
            state.pieces.clear();
            taken.changed.notify_all();
        })?;
        Ok(Self { shared })
    }
}

impl Shared {
    pub(crate) fn is_done(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_done
    }

    /// Waits until he has all; ends it if he does not take it.
    pub(crate) fn end(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, left, |state| !state.is_done);
        drop(waited);
        self.shut();
    }

    fn shut(&self) {
        // It may have ended by itself.
        drop(self.socket.as_ref().map(|socket| socket.shutdown(std::net::Shutdown::Both)));
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                state.bytes = state.bytes.saturating_sub(piece.len());
                return Some(piece);
            }
            if state.is_over {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_gone || state.bytes > WAITING {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.bytes = state.bytes.saturating_add(bytes.len());
        state.pieces.push_back(bytes.to_vec());
        self.shared.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_over = true;
        self.shared.changed.notify_all();
    }
}
