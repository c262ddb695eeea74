//! A client that asks one question at a time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lines::{Lines, handshake, next_before};
use crate::message::{Event, Message, Refusal, Version};

/// Most events that are kept for whoever asks for them later; the oldest go first.
const MAX_EVENTS: usize = 1024;

/// A connection to a QEMU.
#[derive(Debug)]
pub struct Client {
    lines: Lines,
    version: Version,
    timeout: Duration,
    last_id: u64,
    events: VecDeque<Event>,
}

/// Why QEMU's answer is missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens there, or what listens is no QEMU.
    #[error("could not reach QEMU's QMP socket {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The connection broke, or QEMU took too long.
    #[error("QEMU did not answer {command}")]
    Connection {
        /// The command's name.
        command: String,
        /// What went wrong.
        source: io::Error,
    },
    /// QEMU says no.
    #[error("QEMU refused {command}: {}", refusal.description)]
    Refused {
        /// The command's name.
        command: String,
        /// Its reason.
        refusal: Refusal,
    },
}

impl Client {
    /// Connects to the socket `path` and greets QEMU. Each answer, this one included, may take as long as `timeout`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let greet = || {
            let mut lines = Lines::new(UnixStream::connect(path)?);
            let version = handshake(&mut lines, Instant::now() + timeout)?;
            Ok((lines, version))
        };
        let (lines, version) =
            greet().map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
        Ok(Self { lines, version, timeout, last_id: 0, events: VecDeque::new() })
    }

    /// QEMU's version, as it says.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Runs the command `name` and returns what it returns.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], [`ClientError::Connection`].
    pub fn run(&mut self, name: &str, arguments: Value) -> Result<Value, ClientError> {
        let mut results = self.run_all(vec![(name, arguments)])?;
        let result = results.pop().unwrap_or(Ok(Value::Null));
        result.map_err(|refusal| ClientError::Refused { command: name.to_owned(), refusal })
    }

    /// Runs commands, all sent before the first answer is waited for, and returns what each returned.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connection`].
    pub fn run_all(
        &mut self,
        commands: Vec<(&str, Value)>,
    ) -> Result<Vec<Result<Value, Refusal>>, ClientError> {
        let mut results = Vec::with_capacity(commands.len());
        for batch in commands.chunks(BATCH) {
            let first = self.last_id.saturating_add(1);
            for (name, arguments) in batch {
                self.last_id = self.last_id.saturating_add(1);
                let command = json!({"execute": name, "arguments": arguments, "id": self.last_id});
                let sent = self.lines.send(format!("{command}\n").as_bytes(), None);
                sent.map_err(|source| broken(name, source))?;
            }
            for (id, (name, _)) in (first..).zip(batch) {
                results.push(self.reply(id).map_err(|source| broken(name, source))?);
            }
        }
        Ok(results)
    }

    /// Gives QEMU a descriptor, which commands then name as `fd:NAME`. One that had the name is closed.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`], [`ClientError::Connection`].
    pub fn give_fd(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), ClientError> {
        let command = "getfd";
        self.last_id = self.last_id.saturating_add(1);
        let id = self.last_id;
        let line = json!({"execute": command, "arguments": {"fdname": name}, "id": id});
        let sent = self.lines.send(format!("{line}\n").as_bytes(), Some(fd));
        let replied =
            sent.and_then(|()| self.reply(id)).map_err(|source| broken(command, source))?;
        let refused = |refusal| ClientError::Refused { command: command.to_owned(), refusal };
        replied.map(drop).map_err(refused)
    }

    /// Takes the oldest event that nobody has taken, without waiting; those of before the last answer are all here.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Waits for an event that `is_meant` picks, and drops those before it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connection`], with `TimedOut` when there is none in time.
    pub fn wait_for_event(
        &mut self,
        mut is_meant: impl FnMut(&Event) -> bool,
        timeout: Duration,
    ) -> Result<Event, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            while let Some(event) = self.events.pop_front() {
                if is_meant(&event) {
                    return Ok(event);
                }
            }
            let message = next_before(&mut self.lines, deadline);
            if let Message::Event(event) = message.map_err(|source| broken("an event", source))? {
                self.events.push_back(event);
            }
        }
    }

    fn reply(&mut self, id: u64) -> io::Result<Result<Value, Refusal>> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match next_before(&mut self.lines, deadline)? {
                Message::Reply { id: Some(answered), result } if answered == id => {
                    return Ok(result);
                }
                // Late replies to commands that were given up.
                Message::Reply { .. } | Message::Greeting(_) => {}
                Message::Event(event) => {
                    if self.events.len() >= MAX_EVENTS {
                        self.events.pop_front();
                    }
                    self.events.push_back(event);
                }
            }
        }
    }
}

/// Commands that are sent before their answers are read: few enough that neither side waits for the other's buffer.
const BATCH: usize = 32;

fn broken(command: &str, source: io::Error) -> ClientError {
    ClientError::Connection { command: command.to_owned(), source }
}
