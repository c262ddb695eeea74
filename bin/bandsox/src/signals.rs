//! Signals that this process takes care of, as data.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use bandsox_client::Cancel;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::failure::Failure;
use crate::terminal;

/// The signals that a command in the guest gets when this process does.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Signals caught for as long as this lives.
#[derive(Debug)]
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

/// What a caught signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caught {
    /// One for the command in the guest.
    PassOn(u8),
    /// The terminal has a new size.
    Resized,
    /// This process was stopped and goes on.
    Continued,
}

impl Signals {
    /// Catches everything that matters to a command in the guest.
    pub(crate) fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let caught = heeded(PASSED_ON).into_iter().chain([SIGWINCH, SIGCONT]);
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, caught)?;
        Ok(Self { delivery })
    }

    /// What was caught since the last call.
    pub(crate) fn pending(&mut self) -> Vec<Caught> {
        let pending = self.delivery.pending();
        pending
            .filter_map(|signal| match signal {
                SIGWINCH => Some(Caught::Resized),
                SIGCONT => Some(Caught::Continued),
                other => u8::try_from(other).ok().map(Caught::PassOn),
            })
            .collect()
    }

    /// The first signal since the last call that asks this process to end.
    pub(crate) fn interruption(&mut self) -> Option<u8> {
        self.pending().into_iter().find_map(|caught| match caught {
            Caught::PassOn(signal) => Some(signal),
            Caught::Resized | Caught::Continued => None,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

/// Those of the signals that whoever started this process did not have it ignore, as `nohup` does
/// with SIGHUP and shells do with SIGINT for what runs in the background.
fn heeded<const N: usize>(signals: [i32; N]) -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok())
        .unwrap_or(0);
    let is_heeded = |signal: &i32| {
        let bit = u32::try_from(*signal).ok().and_then(|signal| signal.checked_sub(1));
        bit.and_then(|bit| ignored.checked_shr(bit)).is_none_or(|rest| rest & 1 == 0)
    };
    signals.into_iter().filter(is_heeded).collect()
}

/// Ctrl-C and its like, as a request to give up.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// The request; made by the first signal. The second ends the process.
    pub(crate) cancel: Cancel,
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    /// Catches the signals that ask a process to end, from now on.
    pub(crate) fn catch() -> io::Result<Self> {
        let interrupt = Self { cancel: Cancel::new(), signal: Arc::default() };
        let caught = heeded([SIGINT, SIGTERM, SIGHUP]);
        let mut signals = signal_hook::iterator::Signals::new(caught)?;
        let (cancel, first) = (interrupt.cancel.clone(), Arc::clone(&interrupt.signal));
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if cancel.is_requested() {
                    terminal::restore();
                    process::exit(128 + signal);
                }
                first.store(signal, Ordering::SeqCst);
                cancel.request();
            }
        })?;
        Ok(interrupt)
    }

    /// What a failure means: if the user interrupted, that.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        if !self.cancel.is_requested() {
            return failure;
        }
        let signal = u8::try_from(self.signal.load(Ordering::SeqCst)).unwrap_or(0);
        Failure::new("interrupted; what was there before is unchanged")
            .code(128_u8.saturating_add(signal))
    }
}
