//! Taking the guest down in order.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bandsox_proto::v2::ShutdownMode;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};
use rustix::system::{RebootCommand, reboot};

use crate::children::{KILL, TERM};
use crate::console::say;
use crate::signals;

/// Processes get this long after SIGTERM unless the order says otherwise.
pub(crate) const GRACE_MS: u64 = 3000;

/// Nobody waits longer than this for processes to end.
const MAX_GRACE: Duration = Duration::from_secs(60);

/// After SIGKILL only a process stuck in the kernel is left.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) mode: ShutdownMode,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub(crate) grace_ms: u64,
}

/// The file systems that must be whole afterwards, outermost first.
pub(crate) type Disks = Vec<OwnedFd>;

/// Ends every process, writes everything back, and the guest is gone.
pub(crate) fn run(order: Order, disks: &Disks, reap: impl Fn()) -> ! {
    say(match order.mode {
        ShutdownMode::PowerOff => "powering off",
        ShutdownMode::Reboot => "rebooting",
    });
    signals::send_to_all(TERM);
    // A stopped process hears nothing until it goes on.
    signals::send_to_all(libc::SIGCONT);
    if !all_gone(Duration::from_millis(order.grace_ms).min(MAX_GRACE), &reap) {
        signals::send_to_all(KILL);
        all_gone(AFTER_KILL, &reap);
    }
    rustix::fs::sync();
    for disk in disks {
        if let Err(error) = make_read_only(disk) {
            // It was synced; at the next start its journal is replayed.
            say(&format!("a disk is still in use: {error}"));
        }
    }
    finish(order.mode)
}

/// Powers off or resets, without any further ado.
pub(crate) fn finish(mode: ShutdownMode) -> ! {
    let command = match mode {
        ShutdownMode::PowerOff => RebootCommand::PowerOff,
        ShutdownMode::Reboot => RebootCommand::Restart,
    };
    loop {
        if let Err(error) = reboot(command) {
            say(&format!("cannot go down: {error}"));
        }
        // PID 1 must not return; without a way to power off, the host stops the machine.
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Waits until PID 1 has no children, which means that there are no other processes.
fn all_gone(patience: Duration, reap: &impl Fn()) -> bool {
    let until = Instant::now() + patience;
    loop {
        reap();
        if !signals::has_children() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn make_read_only(disk: &OwnedFd) -> rustix::io::Result<()> {
    let picked = fspick(disk, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?;
    fsconfig_set_flag(&picked, "ro")?;
    fsconfig_reconfigure(&picked)
}
