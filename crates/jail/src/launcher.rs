//! The launcher: a process with one thread, between the monitor and the engine.
//!
//! It makes the jail, forks the engine into it, seals it when told, and reports its end. The
//! engine dies with it, and it kills the engine when the monitor's end of the socket closes:
//! however the monitor ends, the engine ends.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open,
    pidfd_send_signal, set_dumpable_behavior, waitpid,
};

use crate::child::{Child, enter_namespaces};
use crate::failure::Failure;
use crate::order::{Confinement, Ended, Order, Report, Request};
use crate::pieces::Piece;
use crate::sys::{self, Forked};
use crate::{packet, privileges, root};

/// The launcher's program: `bandsox __jail`. Standard input is the control socket.
///
/// To be called with one thread running and nothing open but the standard streams.
pub fn launcher_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        // The monitor's process is gone, or was none.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    // What the monitor's process failed to mark must not reach the engine.
    sys::close_from(3)?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let Some((order, fds)) = packet::receive::<Order>(&control)? else { return Ok(()) };
    let keep = Keep { confinement: order.confinement, seals: seals(&order) };
    match start(order, fds) {
        Ok(child) => {
            packet::send(&control, &Report::Started { pid: child.pid() }, &[])?;
            child.guard(&control, keep)
        }
        Err(failure) => packet::send(&control, &Report::Failed(failure), &[]),
    }
}

/// Whether there is a root to take away: one that is not the host's.
fn seals(order: &Order) -> bool {
    order.confinement != Confinement::None && order.has(Piece::Files) && order.has(Piece::Seal)
}

fn start(order: Order, mut fds: Vec<OwnedFd>) -> Result<Running, Failure> {
    let invalid = |step| Failure::at(step)(rustix::io::Errno::INVAL);
    if fds.len() != 1 + order.numbers.len() {
        return Err(invalid("receiving descriptors"));
    }
    let stderr = fds.remove(0);
    enter_namespaces(&order)?;

    let plumbing = Failure::io;
    let (alive, alive_writer) =
        io::pipe().map_err(plumbing(crate::failure::Kind::Confine, "making a pipe"))?;
    let (mut status_reader, status) =
        io::pipe().map_err(plumbing(crate::failure::Kind::Confine, "making a pipe"))?;
    let child = Child { order, stderr, fds, launcher_alive: alive.into(), status: status.into() };
    let pid = match sys::fork().map_err(Failure::at("making a process"))? {
        Forked::Child => {
            drop((alive_writer, status_reader));
            child.run()
        }
        Forked::Parent(pid) => pid,
    };
    // The engine's descriptors are the engine's alone from here on.
    drop(child);

    let mut told = Vec::new();
    // A read error leaves `told` empty; the child's exit code then tells.
    status_reader.read_to_end(&mut told).ok();
    let running = Running { pid, _alive: alive_writer.into() };
    if told.is_empty() {
        return Ok(running);
    }
    running.reap();
    Err(serde_json::from_slice(&told).unwrap_or_else(|_| invalid("hearing from the new process")))
}

/// What the launcher remembers of the order.
struct Keep {
    confinement: Confinement,
    seals: bool,
}

/// The engine's process.
struct Running {
    pid: Pid,
    /// Ends with this process; the child looks at its other end.
    _alive: OwnedFd,
}

impl Running {
    fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Serves the monitor until the engine ends.
    fn guard(&self, control: &OwnedFd, keep: Keep) -> io::Result<()> {
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty())?;
        let mut listening = true;
        loop {
            let mut waiting = vec![PollFd::new(&pidfd, PollFlags::IN)];
            if listening {
                waiting.push(PollFd::new(control, PollFlags::IN));
            }
            match poll(&mut waiting, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready = |at: usize| waiting.get(at).is_some_and(|fd| !fd.revents().is_empty());
            if ready(0) {
                return packet::send(control, &Report::Exited(self.reap()), &[]);
            }
            if ready(1) {
                match packet::receive::<Request>(control) {
                    Ok(Some((Request::Seal, _))) => {
                        packet::send(control, &seal(&keep), &[])?;
                    }
                    // The monitor is gone, wants it killed, or talks nonsense.
                    Ok(None) | Err(_) => {
                        listening = false;
                        pidfd_send_signal(&pidfd, Signal::KILL).ok();
                    }
                }
            }
        }
    }

    /// Waits for the end of the process.
    fn reap(&self) -> Ended {
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return ended(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Ended::Unknown,
            }
        }
    }
}

fn ended(status: WaitStatus) -> Ended {
    if let Some(code) = status.exit_status() {
        return Ended::Code(code);
    }
    status.terminating_signal().map_or(Ended::Unknown, Ended::Signal)
}

/// Takes the engine's root away and gives up what the launcher no longer needs itself.
///
/// It stays the engine's own user: only so may the kernel deliver the signal that its death
/// sends.
fn seal(keep: &Keep) -> Report {
    let mut applied = Vec::new();
    let mut missing = Vec::new();
    let sealed = (|| {
        if keep.seals {
            root::seal()?;
            applied.push("its root directory is empty".to_owned());
        } else {
            missing.push("its root directory is not sealed".to_owned());
        }
        match keep.confinement {
            Confinement::None => {
                missing.push(
                    "no jail at all: it runs as this user, with all that it may do".to_owned(),
                );
                return Ok(());
            }
            Confinement::OtherUser { uid } => {
                privileges::forbid_gains()?;
                privileges::become_user(uid)?;
                applied.push(format!("runs as user {uid}"));
            }
            Confinement::SameUser { uid, .. } => {
                privileges::forbid_gains()?;
                applied.push(format!("runs as user {uid} in a user namespace of its own"));
            }
        }
        privileges::drop_capabilities()?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(Failure::at("hiding the launcher's memory"))
    })();
    match sealed {
        Ok(()) => Report::Sealed { applied, missing },
        Err(failure) => Report::SealFailed(failure),
    }
}
