//! The two halves of a connection to QEMU: commands are sent by one thread, everything that arrives is
//! read by another.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use bandsox_engine::CommandError;
use serde_json::{Value, json};

use bandsox_qmp::Refusal;

/// What the reading thread passes to the commanding one.
#[derive(Debug)]
enum Answer {
    Reply { id: Option<u64>, result: Result<Value, Refusal> },
    DeviceGone { id: String },
    DeviceKept { id: String },
}

/// The reading thread's end of the way to a [`Commander`].
pub(crate) struct Listener {
    answers: Sender<Answer>,
}

impl Listener {
    /// Passes a reply on.
    pub(crate) fn reply(&self, id: Option<u64>, result: Result<Value, Refusal>) {
        // Nobody commands any more: nobody waits for it either.
        self.answers.send(Answer::Reply { id, result }).ok();
    }

    /// Passes on that a device was unplugged.
    pub(crate) fn device_gone(&self, id: String) {
        self.answers.send(Answer::DeviceGone { id }).ok();
    }

    /// Passes on that the guest refuses to let go of a device.
    pub(crate) fn device_kept(&self, id: String) {
        self.answers.send(Answer::DeviceKept { id }).ok();
    }
}

/// Sends commands and waits for their replies.
pub(crate) struct Commander {
    stream: UnixStream,
    answers: Receiver<Answer>,
    last_id: u64,
}

impl Commander {
    /// A commander on `stream`, and the listener that feeds it.
    pub(crate) fn new(stream: UnixStream) -> (Self, Listener) {
        let (sender, answers) = channel();
        (Self { stream, answers, last_id: 0 }, Listener { answers: sender })
    }

    /// Runs a command.
    ///
    /// `what` says it in words, for errors.
    pub(crate) fn run(
        &mut self,
        what: &'static str,
        name: &str,
        arguments: Value,
        timeout: Duration,
    ) -> Result<Value, CommandError> {
        self.run_with_fd(what, name, arguments, None, timeout)
    }

    /// Runs a command, handing over a descriptor with it.
    pub(crate) fn run_with_fd(
        &mut self,
        what: &'static str,
        name: &str,
        arguments: Value,
        fd: Option<OwnedFd>,
        timeout: Duration,
    ) -> Result<Value, CommandError> {
        let deadline = Instant::now() + timeout;
        self.last_id += 1;
        let id = self.last_id;
        let command = json!({"execute": name, "arguments": arguments, "id": id});
        self.send(&command, fd).map_err(|source| {
            if source.kind() == io::ErrorKind::BrokenPipe {
                CommandError::Gone { command: what }
            } else {
                CommandError::Connection { command: what, source }
            }
        })?;
        loop {
            match self.answer(what, deadline, timeout)? {
                Answer::Reply { id: Some(answered), result } if answered == id => {
                    return result.map_err(|Refusal { class, description }| {
                        CommandError::Refused { command: what, class, description }
                    });
                }
                // Late replies to commands that were given up, and news of no interest.
                Answer::Reply { .. } | Answer::DeviceGone { .. } | Answer::DeviceKept { .. } => {}
            }
        }
    }

    /// Waits until the device `device` is unplugged.
    pub(crate) fn wait_for_device_gone(
        &mut self,
        what: &'static str,
        device: &str,
        timeout: Duration,
    ) -> Result<(), CommandError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.answer(what, deadline, timeout)? {
                Answer::DeviceGone { id } if id == device => return Ok(()),
                Answer::DeviceKept { id } if id == device => {
                    return Err(CommandError::Refused {
                        command: what,
                        class: "GuestError".to_owned(),
                        description: "the guest keeps the device".to_owned(),
                    });
                }
                Answer::DeviceGone { .. } | Answer::DeviceKept { .. } | Answer::Reply { .. } => {}
            }
        }
    }

    fn answer(
        &mut self,
        command: &'static str,
        deadline: Instant,
        waited: Duration,
    ) -> Result<Answer, CommandError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.answers.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => CommandError::NoAnswer { command, waited },
            RecvTimeoutError::Disconnected => CommandError::Gone { command },
        })
    }

    fn send(&mut self, command: &Value, fd: Option<OwnedFd>) -> io::Result<()> {
        let line = format!("{command}\n");
        bandsox_qmp::send(&self.stream, line.as_bytes(), fd.as_ref().map(OwnedFd::as_fd))
    }
}
