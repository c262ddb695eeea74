//! The thread that listens to QEMU until it is gone.

use std::collections::VecDeque;
use std::io::{self, PipeReader, Read};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use bandsox_engine::{EngineEvent, EngineExit, ExitStatus, Process};
use bandsox_qmp::{Event, Lines, Message};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use crate::commander::Listener;
use crate::interpret::History;

/// Everything that the thread owns.
pub(crate) struct Watch {
    pub(crate) lines: Lines,
    pub(crate) listener: Listener,
    pub(crate) tail: StderrTail,
    pub(crate) process: Box<dyn Process>,
    pub(crate) events: Sender<EngineEvent>,
}

/// How long a QEMU that has closed its control connection may take to end.
const GRACE: Duration = Duration::from_secs(20);

impl Watch {
    /// Starts the thread. It ends by itself, after QEMU.
    pub(crate) fn spawn(self) -> io::Result<()> {
        thread::Builder::new().name("engine".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        let mut history = History::default();
        if let Err(error) = self.listen(&mut history) {
            tracing::warn!(%error, "QEMU's control connection failed");
        }
        let Self { listener, mut tail, mut process, events, .. } = self;
        // Whoever waits for a reply learns now that none will come.
        drop(listener);
        let status = process.wait(GRACE).unwrap_or_else(|| {
            tracing::warn!("QEMU hangs after closing its control connection; killing it");
            if let Ok(switch) = process.kill_switch() {
                switch.pull();
            }
            process.wait(GRACE).unwrap_or(ExitStatus::Unknown)
        });
        tail.drain();
        let exit = EngineExit { status, cause: history.cause, stderr_tail: tail.into_text() };
        // The owner may have lost interest.
        events.send(EngineEvent::Exited(exit)).ok();
    }

    fn listen(&mut self, history: &mut History) -> io::Result<()> {
        loop {
            while let Some(message) = self.lines.buffered()? {
                self.take(message, history);
            }
            let (from_qmp, from_stderr) = self.wait_for_either()?;
            if from_stderr {
                self.tail.drain();
            }
            if from_qmp && self.lines.fill()? == 0 {
                return Ok(());
            }
        }
    }

    /// Which of the control connection and standard error has something to read.
    fn wait_for_either(&self) -> io::Result<(bool, bool)> {
        loop {
            let mut waiting = vec![PollFd::new(&self.lines, PollFlags::IN)];
            waiting.extend(self.tail.pipe().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            match poll(&mut waiting, None) {
                Ok(_) => {
                    let ready =
                        |at: usize| waiting.get(at).is_some_and(|fd| !fd.revents().is_empty());
                    return Ok((ready(0), ready(1)));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&self, message: Message, history: &mut History) {
        match message {
            Message::Greeting(_) => {}
            Message::Reply { id, result } => self.listener.reply(id, result),
            Message::Event(event) => {
                tracing::debug!(name = event.name, data = %event.data, "QEMU event");
                match (event.name.as_str(), device_of(&event)) {
                    ("DEVICE_DELETED", Some(device)) => self.listener.device_gone(device),
                    ("DEVICE_UNPLUG_GUEST_ERROR", Some(device)) => {
                        self.listener.device_kept(device);
                    }
                    _ => {}
                }
                if let Some(event) = history.take(&event) {
                    self.events.send(event).ok();
                }
            }
        }
    }
}

/// The id of the device that an event is about.
fn device_of(event: &Event) -> Option<String> {
    event.data.get("device").and_then(Value::as_str).map(str::to_owned)
}

/// The last of what QEMU wrote to its standard error.
pub(crate) struct StderrTail {
    /// Non-blocking; gone after its end.
    pipe: Option<PipeReader>,
    last: VecDeque<u8>,
}

impl StderrTail {
    const BYTES: usize = 4096;

    /// Reads from `pipe`, which does not block.
    pub(crate) fn new(pipe: PipeReader) -> Self {
        Self { pipe: Some(pipe), last: VecDeque::new() }
    }

    /// What to poll, until its end.
    fn pipe(&self) -> Option<&PipeReader> {
        self.pipe.as_ref()
    }

    /// Takes in what has been written.
    pub(crate) fn drain(&mut self) {
        let mut chunk = [0_u8; 1024];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    self.last.extend(chunk.iter().take(count));
                    let surplus = self.last.len().saturating_sub(Self::BYTES);
                    self.last.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// What was said last, without control characters.
    pub(crate) fn into_text(self) -> String {
        let bytes: Vec<u8> = self.last.into();
        let text = String::from_utf8_lossy(&bytes);
        let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        text.trim().chars().map(plain).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_the_last_words_are_kept() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("pipes can be non-blocking");
        let mut tail = StderrTail::new(reader);

        for round in 0..1000 {
            writeln!(writer, "line {round}").expect("the pipe is drained below");
            tail.drain();
        }
        drop(writer);
        tail.drain();

        assert!(tail.pipe().is_none());
        let text = tail.into_text();
        assert!(text.ends_with("line 999"));
        assert!(text.len() <= StderrTail::BYTES);
    }

    #[test]
    fn an_engine_cannot_write_escapes_into_our_log() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("pipes can be non-blocking");
        let mut tail = StderrTail::new(reader);

        writer.write_all(b"a\x1b[2Jb\xff\n").expect("the pipe is empty");
        tail.drain();

        assert_eq!(tail.into_text(), "a [2Jb\u{fffd}");
    }
}
