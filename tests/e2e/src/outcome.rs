//! One run of the program: what it was given, what it said, how it ended.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::deadline::GENEROUS;

/// A command about to run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
    deadline: Duration,
}

impl Run {
    /// `program`, in a process group of its own, without standard input.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.process_group(0);
        Self { command, input: None, deadline: GENEROUS }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs in `dir`.
    #[must_use]
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Feeds `bytes` to standard input and closes it.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Allows more than [`GENEROUS`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts it and returns at once.
    ///
    /// # Panics
    ///
    /// When the program cannot be started.
    #[must_use]
    pub fn spawn(mut self) -> Started {
        let spelled = spell(&self.command);
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("cannot start {spelled}: {error}"));
        if let (Some(bytes), Some(mut pipe)) = (self.input, child.stdin.take()) {
            // A program that ends without reading its input is no fault of the writer's.
            thread::spawn(move || pipe.write_all(&bytes).is_ok());
        }
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        Started { child, spelled, stdout, stderr, began: Instant::now(), deadline: self.deadline }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or has not ended by its deadline.
    #[must_use]
    pub fn output(self) -> Outcome {
        self.spawn().wait()
    }

    /// Runs it to its end, which must be exit code 0; returns standard output without the last line's end.
    ///
    /// # Panics
    ///
    /// When it fails, with everything that it said.
    pub fn ok(self) -> String {
        self.output().ok().text()
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Started {
    child: Child,
    spelled: String,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    began: Instant,
    deadline: Duration,
}

impl Started {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it is gone already.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is ours and not yet reaped");
    }

    /// True until it has ended.
    ///
    /// # Panics
    ///
    /// When the system cannot tell.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child can be waited for").is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it has not ended by its deadline; it is killed then, and what it said is shown.
    #[must_use]
    pub fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child can be waited for") {
                break Some(status);
            }
            if self.began.elapsed() > self.deadline {
                let group = rustix::process::Pid::from_child(&self.child);
                // It may have ended in this moment; the message below is the same.
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
                drop(self.child.wait());
                break None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let took = self.began.elapsed();
        let stdout = self.stdout.join().expect("reading a pipe does not panic");
        let stderr = self.stderr.join().expect("reading a pipe does not panic");
        let outcome = Outcome {
            status: status.unwrap_or_else(|| ExitStatus::from_raw(9)),
            stdout,
            stderr,
            took,
            spelled: self.spelled,
        };
        assert!(status.is_some(), "did not end within {:?}\n{outcome}", self.deadline);
        outcome
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output, whole.
    pub stdout: Vec<u8>,
    /// Standard error, whole.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
    spelled: String,
}

impl Outcome {
    /// Insists on success.
    ///
    /// # Panics
    ///
    /// When it failed.
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "must succeed\n{self}");
        self
    }

    /// Insists on failure, with `message` on standard error and nothing but that there to see.
    ///
    /// # Panics
    ///
    /// When it succeeded, or said something else, or panicked.
    pub fn refused(self, message: &str) -> Self {
        assert!(!self.status.success(), "must fail\n{self}");
        assert!(self.complaint().contains(message), "must say: {message}\n{self}");
        assert!(!self.complaint().contains("panicked"), "must not panic\n{self}");
        self
    }

    /// Insists on this exit code.
    ///
    /// # Panics
    ///
    /// When it is another.
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "exit code\n{self}");
        self
    }

    /// Standard output without the last line's end.
    ///
    /// # Panics
    ///
    /// When it is not text.
    #[must_use]
    pub fn text(&self) -> String {
        let text = std::str::from_utf8(&self.stdout).unwrap_or_else(|_| panic!("not text\n{self}"));
        text.strip_suffix('\n').unwrap_or(text).to_owned()
    }

    /// Standard error.
    #[must_use]
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}", self.spelled)?;
        writeln!(f, "{} after {:.1?}", self.status, self.took)?;
        writeln!(f, "stdout: {}", shortened(&self.stdout))?;
        writeln!(f, "stderr: {}", shortened(&self.stderr))
    }
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("it was asked to be a pipe");
    thread::spawn(move || {
        let mut all = Vec::new();
        // A pipe fails only when the process is gone: what came before that counts.
        drop(pipe.read_to_end(&mut all));
        all
    })
}

fn spell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn shortened(bytes: &[u8]) -> String {
    const SHOWN: usize = 4000;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth_back(SHOWN) {
        Some((from, _)) => format!("[…]{}", text.get(from..).unwrap_or_default()),
        None => text.into_owned(),
    }
}
