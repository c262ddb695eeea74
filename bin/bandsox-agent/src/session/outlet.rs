//! Output that nobody reads any more.
//!
//! A command may leave something behind that still writes to its stdout: `sh -c 'server &'`. The session is over when
//! the command is; what it left behind must not die of a broken pipe for that, nor wait for ever in a full one. So its
//! pipes are emptied here, into nothing, until everyone has closed them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Most pipes at once; one more is closed.
const MAX_PIPES: usize = 256;

/// How soon a new pipe is looked after. Its buffer bridges the time.
const LOOK: Duration = Duration::from_millis(250);

/// Sessions' threads send pipes to the one thread that empties them.
static PIPES: OnceLock<Mutex<Sender<OwnedFd>>> = OnceLock::new();

/// Empties `pipe` from now on.
pub(crate) fn empty(pipe: OwnedFd) {
    let pipes = PIPES.get_or_init(|| {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("outlet".to_owned()).stack_size(64 * 1024);
        // Without the thread the receiver is gone and every pipe is closed, which is the next best.
        thread.spawn(move || run(&receiver)).ok();
        Mutex::new(sender)
    });
    pipes.lock().unwrap_or_else(PoisonError::into_inner).send(pipe).ok();
}

fn run(arrivals: &Receiver<OwnedFd>) {
    let mut pipes: Vec<OwnedFd> = Vec::new();
    let mut waste = vec![0; 16 * 1024];
    loop {
        if pipes.is_empty() {
            match arrivals.recv() {
                Ok(pipe) => pipes.push(pipe),
                Err(_) => return,
            }
        }
        pipes.extend(arrivals.try_iter());
        pipes.truncate(MAX_PIPES);
        let timeout = Timespec::try_from(LOOK).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut fds: Vec<_> = pipes
            .iter()
            .map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN))
            .collect();
        if poll(&mut fds, Some(&timeout)).is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        pipes.retain(|pipe| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            !matches!(rustix::io::read(pipe, &mut *waste), Ok(0) | Err(Errno::IO | Errno::BADF))
        });
    }
}
