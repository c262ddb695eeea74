//! Who waits for which process.
//!
//! PID 1 inherits every orphan and must wait for it; a session waits for its own command. Both go through here: under
//! one lock, an exited process is waited for by its session if it has one, by [`Children::reap`] otherwise. A process is
//! also started under that lock, since the standard library waits by itself for one that could not execute.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, waitid};

/// The processes that sessions wait for.
#[derive(Default)]
pub(crate) struct Children {
    /// The sessions' threads meet the reaper's here.
    owned: Mutex<HashSet<Pid>>,
}

impl Children {
    /// Starts a process by `start`, which returns its id, and owns it.
    pub(crate) fn start<T, E>(&self, start: impl FnOnce() -> Result<(Pid, T), E>) -> Result<T, E> {
        let mut owned = self.lock();
        let (pid, started) = start()?;
        owned.insert(pid);
        Ok(started)
    }

    /// Waits for an owned process that has exited, and gives it up.
    pub(crate) fn collect(&self, pid: Pid) -> Option<WaitIdStatus> {
        let mut owned = self.lock();
        owned.remove(&pid);
        let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        drop(owned);
        // The reaper stops at an owned process; there may be others behind it.
        crate::signals::wake_reaper();
        status.ok().flatten()
    }

    /// Signals the process group of an owned process, which cannot be another's, as it has not been collected.
    pub(crate) fn signal_group(&self, pid: Pid, signal: i32) {
        if self.lock().contains(&pid) {
            crate::signals::send_to_group(pid, signal);
        }
    }

    /// Waits for every exited process that no session owns, as far as they can be seen.
    pub(crate) fn reap(&self) {
        let owned = self.lock();
        while let Some(pid) = crate::signals::exited_child() {
            if owned.contains(&pid) {
                return;
            }
            let take = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if waitid(WaitId::Pid(pid), take).is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signals as numbers, which is what comes over the wire.
pub(crate) const TERM: i32 = Signal::TERM.as_raw();
/// See [`TERM`].
pub(crate) const KILL: i32 = Signal::KILL.as_raw();
