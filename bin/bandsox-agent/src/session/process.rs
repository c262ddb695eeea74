//! A command and its streams, until it is over.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bandsox_proto::v2::{Exec, Exit, StreamName, WindowSize};
use rustix::io::Errno;
use rustix::process::{Pid, WaitIdStatus};

use crate::children::{Children, KILL, TERM};
use crate::session::input::Input;
use crate::session::log::Log;
use crate::session::spawn::{Running, Streams};
use crate::session::{outlet, terminal};

/// Largest piece of output.
const PIECE: usize = 32 * 1024;

/// After the command's exit: how long what it left behind may still print into the session.
const AFTERMATH: Duration = Duration::from_millis(100);

/// After the command's exit: most that a pipe can have held of it (`/proc/sys/fs/pipe-max-size`).
const LEFT_IN_PIPE: usize = 1024 * 1024;

/// Between SIGTERM and SIGKILL of a command that ran out of time.
const MERCY: Duration = Duration::from_secs(5);

/// A command.
pub(super) struct Process {
    pub(super) pid: Pid,
    /// Readable once the command has exited.
    pub(super) pidfd: OwnedFd,
    /// A pipe; with a terminal, stdin is `stdout`.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    is_terminal: bool,
    deadline: Option<Instant>,
    mercy: Option<Instant>,
    timed_out: bool,
    ended: Option<Ended>,
}

/// A command that has exited.
struct Ended {
    status: Option<WaitIdStatus>,
    at: Instant,
    read_since: usize,
    /// The aftermath is over.
    waited: bool,
}

impl Process {
    pub(super) fn new(running: Running, exec: &Exec) -> Self {
        let Running { pid, pidfd, streams } = running;
        let (is_terminal, stdin, stdout, stderr) = match streams {
            Streams::Pipes { stdin, stdout, stderr } => (false, stdin, stdout, Some(stderr)),
            Streams::Terminal { master } => (true, None, master, None),
        };
        let limit = exec.timeout_ms.map(Duration::from_millis);
        Self {
            pid,
            pidfd,
            stdin,
            stdout: Some(stdout),
            stderr,
            is_terminal,
            deadline: limit.and_then(|limit| Instant::now().checked_add(limit)),
            mercy: None,
            timed_out: false,
            ended: None,
        }
    }

    /// Whether the command itself has exited.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether stdin can be written to when the descriptor of stdout can.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// When [`Process::on_time`] has something to do.
    pub(super) fn next_time(&self) -> Option<Instant> {
        match &self.ended {
            Some(ended) if ended.waited => None,
            Some(ended) => ended.at.checked_add(AFTERMATH),
            None => self.mercy.or(self.deadline),
        }
    }

    /// Ends a command whose time is over: gently first.
    pub(super) fn on_time(&mut self, children: &Children, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        if self.mercy.is_some_and(|mercy| now >= mercy) {
            children.signal_group(self.pid, KILL);
            // Should that not do, say it again.
            self.mercy = now.checked_add(MERCY);
        } else if self.mercy.is_none() && self.deadline.is_some_and(|deadline| now >= deadline) {
            self.timed_out = true;
            children.signal_group(self.pid, TERM);
            self.mercy = now.checked_add(MERCY);
        }
    }

    /// The command has exited: learns how.
    pub(super) fn on_exit(&mut self, children: &Children) {
        if self.timed_out {
            // What it left behind was to end with it, and can be reached only until it is waited for.
            children.signal_group(self.pid, KILL);
        }
        let status = children.collect(self.pid);
        self.ended = Some(Ended { status, at: Instant::now(), read_since: 0, waited: false });
    }

    /// Reads one piece from a stream into `log`. `false` if there is nothing to read at present.
    pub(super) fn read(&mut self, stream: StreamName, buffer: &mut Vec<u8>, log: &mut Log) -> bool {
        let slot = match stream {
            StreamName::Stdout => &mut self.stdout,
            StreamName::Stderr => &mut self.stderr,
        };
        let Some(fd) = slot else { return false };
        buffer.resize(PIECE, 0);
        match rustix::io::read(&*fd, &mut **buffer) {
            // A terminal that everyone has closed says EIO.
            Ok(0) | Err(Errno::IO) => {
                *slot = None;
                false
            }
            Ok(count) => {
                log.push(stream, buffer.get(..count).unwrap_or_default());
                if let Some(ended) = &mut self.ended {
                    ended.read_since = ended.read_since.saturating_add(count);
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Passes on what the client has sent; at its end, the end.
    pub(super) fn write(&mut self, input: &mut Input) {
        let terminal = self.is_terminal.then_some(&self.stdout).and_then(Option::as_ref);
        let Some(fd) = self.stdin.as_ref().or(terminal) else {
            input.close();
            return;
        };
        while !input.next().is_empty() {
            match rustix::io::write(fd, input.next()) {
                Ok(count) => input.wrote(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It closed its stdin.
                Err(_) => input.close(),
            }
        }
        if input.at_end() {
            if let (None, Some(terminal)) = (&self.stdin, terminal) {
                let end = [terminal::end_of_file(terminal)];
                rustix::io::write(terminal, &end).ok();
            }
            self.stdin = None;
            input.close();
        }
    }

    pub(super) fn resize(&self, size: WindowSize) {
        if let (true, Some(master)) = (self.is_terminal, &self.stdout) {
            // A terminal that is gone needs no size.
            terminal::resize(master, size).ok();
        }
    }

    /// The exit, once there is one and everything the command itself printed has been read.
    pub(super) fn conclusion(&mut self, log: &Log, now: Instant) -> Option<Exit> {
        let ended = self.ended.as_mut()?;
        let silent = self.stdout.is_none() && self.stderr.is_none();
        ended.waited = now.saturating_duration_since(ended.at) >= AFTERMATH;
        // Without room in the log, something may still lie in a pipe unread.
        let streams = [&self.stdout, &self.stderr].into_iter().flatten();
        let empty = || streams.clone().all(|fd| rustix::io::ioctl_fionread(fd) == Ok(0));
        let read = log.has_room() || ended.read_since >= LEFT_IN_PIPE || empty();
        let concluded = silent || (ended.waited && read);
        if !concluded {
            return None;
        }
        let number = |value: Option<i32>| value.and_then(|value| u8::try_from(value).ok());
        let status = ended.status.as_ref();
        Some(Exit {
            code: number(status.and_then(WaitIdStatus::exit_status)),
            signal: number(status.and_then(WaitIdStatus::terminating_signal)),
            timeout: self.timed_out,
            seq: log.next_seq(),
            error: None,
        })
    }

    /// Leaves what the command left behind to itself.
    pub(super) fn let_go(self) {
        if !self.is_terminal {
            [self.stdout, self.stderr].into_iter().flatten().for_each(outlet::empty);
        }
    }
}
