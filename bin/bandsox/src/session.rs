//! A command in the guest, with this process's streams, signals and terminal around it.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::ExitCode;

use crate::failure::Failure;
use crate::output::Ui;
use crate::signals::{Caught, Signals};
use crate::storage::{self, NoMonitor, Vm};
use crate::terminal::{self, Raw};
use bandsox_client::Channel;
use bandsox_client::exec::{
    Attachment, Begin, Command, Conversation, Ended, ExecError, Exit, Flow, LinkError, Started,
    Streams, WindowSize, run,
};

/// Exit code of a command that ran out of its time.
const TIMED_OUT: u8 = 124;
/// Exit code of a program whose reader has gone: 128 + SIGPIPE.
const OUTPUT_CLOSED: u8 = 128 + 13;

/// How a session is seen to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Whether standard input is passed on.
    pub(crate) stdin: bool,
    /// Whether the command has a terminal.
    pub(crate) tty: bool,
    /// Whether to leave once it runs.
    pub(crate) leave: bool,
}

/// Size of the user's terminal, or what programs assume where there is none.
pub(crate) fn window_size() -> WindowSize {
    let (rows, cols) = terminal::size().unwrap_or((24, 80));
    WindowSize { rows, cols }
}

/// Sees a session to its end; the exit code is the command's.
pub(crate) fn attend(
    vm: Vm<'_>,
    begin: Begin,
    manner: Manner,
    signals: &mut Signals,
) -> Result<ExitCode, Failure> {
    let Vm { ui, id, .. } = vm;
    let session = begin.session();
    let raw = if manner.tty && manner.stdin { Raw::enter()? } else { None };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = Streams {
        stdin: manner.stdin.then(|| stdin.as_fd()),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    let mut link = Link { vm, manner, signals, raw, hint: None };
    let ended = run(Conversation::new(begin), &mut link, streams);
    // The terminal is the user's again before anything is printed.
    link.raw = None;
    let hint = link.hint.take();
    match ended {
        Ok(Ended::Exited(exit)) => Ok(ExitCode::from(exit_code(ui, &exit))),
        Ok(Ended::OutputClosed) => Ok(ExitCode::from(OUTPUT_CLOSED)),
        Ok(Ended::Left) => {
            if ui.is_json() {
                ui.json(&serde_json::json!({ "session": session.to_string() }))?;
            } else {
                ui.line(session)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(ExecError::Interrupted { signal, .. }) => {
            Err(Failure::silent(128_u8.saturating_add(signal)))
        }
        Err(error @ ExecError::Lost { .. }) => Err(Failure::from(error)
            .hint_if(hint)
            .hint(format!("`bandsox exec --attach {session} {id}` goes on where it stopped"))),
        Err(error) => Err(Failure::from(error).hint_if(hint)),
    }
}

/// The exit code that shells expect, for each way in which a command can end.
fn exit_code(ui: &Ui, exit: &Exit) -> u8 {
    if let Some(fault) = &exit.error {
        ui.report(&Failure::from(fault.clone()));
    }
    match (exit.timeout, exit.code, exit.signal) {
        (true, _, _) => {
            ui.message("The command ran out of its time and was killed.");
            TIMED_OUT
        }
        (false, Some(code), _) => code,
        (false, None, Some(signal)) => 128_u8.saturating_add(signal),
        (false, None, None) => crate::failure::EXEC_FAILED,
    }
}

/// What the session needs of this process.
struct Link<'a> {
    vm: Vm<'a>,
    manner: Manner,
    signals: &'a mut Signals,
    raw: Option<Raw>,
    /// What the user could do about the last failure to connect.
    hint: Option<String>,
}

impl Attachment for Link<'_> {
    fn connect(&mut self) -> Result<Channel, LinkError> {
        let mut monitor = match storage::monitor(self.vm.store, self.vm.id) {
            Ok(monitor) => monitor,
            Err(NoMonitor::Down(failure)) => return Err(LinkError::Final(self.told(&failure))),
            Err(NoMonitor::Mute(failure)) => return Err(LinkError::Temporary(self.told(&failure))),
        };
        monitor.open_channel(None).map_err(|error| {
            self.hint = error.hint().map(ToOwned::to_owned);
            LinkError::Temporary(Box::new(error))
        })
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        Some(self.signals.as_fd())
    }

    fn commands(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        for caught in self.signals.pending() {
            match caught {
                Caught::PassOn(signal) => commands.push(Command::Signal(signal)),
                Caught::Resized | Caught::Continued => {
                    if let (Some(raw), Caught::Continued) = (&self.raw, caught) {
                        raw.again();
                    }
                    if self.manner.tty && io::stdout().is_terminal() {
                        commands.push(Command::Resize(window_size()));
                    }
                }
            }
        }
        commands
    }

    fn lost(&mut self) {
        if self.vm.ui.verbosity() > 0 {
            self.vm.ui.message("The connection was lost; connecting again.");
        }
    }

    fn started(&mut self, _: &Started) -> Flow {
        if self.manner.leave { Flow::Leave } else { Flow::Stay }
    }
}

impl Link<'_> {
    fn told(&mut self, failure: &Failure) -> Box<dyn Error + Send + Sync> {
        self.hint = failure.advice().map(ToOwned::to_owned);
        Box::new(Told(failure.chain().join(": ")))
    }
}

/// A failure as the cause of another one.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Told {}
