//! The user's terminal: raw while a guest's command has it, and as it was afterwards.

use std::io::{self, IsTerminal as _};
use std::panic;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// How the terminal was before it became raw. One lock for two parties: the thread that holds
/// [`Raw`], and whoever ends the process early (a panic, an impatient second Ctrl-C).
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal is raw for as long as this lives.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes standard input raw; `None` if it is not a terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut saved = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_none() {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |information| {
                restore();
                report(information);
            }));
            *saved = Some(before);
        }
        drop(saved);
        let raw = Self(());
        raw.again();
        Ok(Some(raw))
    }

    /// Makes the terminal raw again: a shell resets it while the process is stopped.
    pub(crate) fn again(&self) {
        let saved = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = saved.as_ref() {
            let mut raw = before.clone();
            raw.make_raw();
            // A terminal that has gone cannot be made raw, and need not be.
            tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok();
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was before [`Raw::enter`], if that was called. Safe at any time.
pub(crate) fn restore() {
    // The lock may be held by the thread that panicked; the terminal matters more.
    let saved = match BEFORE.try_lock() {
        Ok(saved) => saved,
        Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(std::sync::TryLockError::WouldBlock) => return,
    };
    if let Some(before) = saved.as_ref() {
        tcsetattr(io::stdin(), OptionalActions::Now, before).ok();
    }
}

/// Rows and columns of the terminal that the user looks at.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
