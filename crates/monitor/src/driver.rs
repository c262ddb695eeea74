//! The one thread that owns the engine and the phase.
//!
//! Everything that happens (a client's request, an engine's event, the agent's hello, a deadline) reaches it as a
//! [`Event`], one after the other, so no two of them can meet half-way.
//!
//! ```text
//!   starting ──hello──▶ running ◀──pause/resume──▶ paused
//!       │                  │ stop: the agent powers off ─▶ stopping ──deadline──▶ quit, then kill
//!       └──────────────────┴───────────── engine exited ─────────────────▶ over
//! ```

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use bandsox_engine::{CommandError, Engine, EngineEvent, ShutdownCause};
use bandsox_spec::{Command, Event as LifeEvent, Phase, Refused, StopReason};

use crate::agent::{AgentControl, Ready};
use crate::state::State;

/// How long after `quit` the engine may take to flush its disks before it is killed.
const QUIT_GRACE: Duration = Duration::from_secs(10);

/// Something that the driver has to know.
pub(crate) enum Event {
    /// The engine says something.
    Engine(EngineEvent),
    /// The agent has said hello.
    Ready(Ready),
    /// A client asks for something, and waits for the answer.
    Asked(Ask, SyncSender<Result<(), AskError>>),
}

/// What a client can ask of the lifecycle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    /// Hold the virtual CPUs.
    Pause,
    /// Let them go on.
    Resume,
    /// Ask the guest to power off; end it by force after this long.
    Stop(Duration),
    /// End it at once.
    Kill,
}

/// Why a client's wish was not granted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It makes no sense in this phase.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The engine did not do it.
    #[error("the engine did not do it")]
    Engine(#[from] CommandError),
    /// The monitor is going down.
    #[error("the VM is going down")]
    GoingDown,
}

/// How a VM's run ended.
#[derive(Debug)]
pub(crate) struct Over {
    /// Why, for `list` and the log.
    pub(crate) reason: StopReason,
    /// Clients that asked for this end and wait to hear of it.
    pub(crate) waiting: Vec<SyncSender<Result<(), AskError>>>,
}

/// Called once, when the agent has said hello.
pub(crate) type OnReady = Box<dyn FnOnce(&Ready) + Send>;

/// The thread's own state.
pub(crate) struct Driver {
    engine: Box<dyn Engine>,
    events: Receiver<Event>,
    state: Arc<State>,
    control: Option<AgentControl>,
    on_ready: Option<OnReady>,
    ending: Option<Ending>,
    deadline: Option<Instant>,
    waiting: Vec<SyncSender<Result<(), AskError>>>,
}

/// How far an end that somebody asked for has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The guest has been asked.
    Asked,
    /// The guest took too long; the engine has been asked.
    Quit(StopCause),
    /// The engine has been killed.
    Killed(StopCause),
}

/// Why the engine was made to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopCause {
    Killed,
    TooSlow,
    NeverReady,
}

impl Driver {
    /// Takes over a machine whose virtual CPUs have just started. `ready_within` bounds the wait for the agent.
    pub(crate) fn new(
        engine: Box<dyn Engine>,
        events: Receiver<Event>,
        state: Arc<State>,
        ready_within: Duration,
        on_ready: OnReady,
    ) -> Self {
        Self {
            engine,
            events,
            state,
            control: None,
            on_ready: Some(on_ready),
            ending: None,
            deadline: Some(Instant::now() + ready_within),
            waiting: Vec::new(),
        }
    }

    /// Runs until the engine's process is gone.
    pub(crate) fn run(mut self) -> Over {
        loop {
            let event = match self.deadline {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Engine(EngineEvent::Exited(exit))) => return self.over(&exit),
                Ok(Event::Engine(event)) => tracing::debug!(?event, "engine"),
                Ok(Event::Ready(ready)) => self.ready(ready),
                Ok(Event::Asked(ask, reply)) => self.asked(ask, reply),
                Err(RecvTimeoutError::Timeout) => self.late(),
                // Every sender is gone, the engine's watcher too: nothing can be learnt any more.
                Err(RecvTimeoutError::Disconnected) => {
                    self.engine.kill();
                    let Self { waiting, .. } = self;
                    return Over { reason: engine_lost(), waiting };
                }
            }
        }
    }

    fn ready(&mut self, mut ready: Ready) {
        if self.state.phase() == Phase::Starting {
            self.deadline = None;
            self.state.set_phase(Phase::Starting.on(LifeEvent::Ready));
            self.state.set_agent(&ready);
            if let Some(tell) = self.on_ready.take() {
                tell(&ready);
            }
        }
        self.control = ready.control.take().or_else(|| self.control.take());
    }

    fn asked(&mut self, ask: Ask, reply: SyncSender<Result<(), AskError>>) {
        match self.act(ask) {
            Ok(Answer::Now) => answer(&reply, Ok(())),
            Ok(Answer::WhenOver) => self.waiting.push(reply),
            Err(error) => answer(&reply, Err(error)),
        }
    }

    fn act(&mut self, ask: Ask) -> Result<Answer, AskError> {
        let phase = self.state.phase();
        match ask {
            Ask::Pause => {
                let next = phase.after(Command::Pause)?;
                self.engine.pause()?;
                self.state.set_phase(next);
                Ok(Answer::Now)
            }
            Ask::Resume => {
                let next = phase.after(Command::Resume)?;
                self.engine.resume()?;
                self.state.set_phase(next);
                Ok(Answer::Now)
            }
            Ask::Stop(grace) => {
                let next = phase.after(Command::Stop)?;
                if self.ending.is_none() {
                    self.ask_guest(phase, grace);
                }
                self.state.set_phase(next);
                Ok(Answer::WhenOver)
            }
            Ask::Kill => {
                let next = phase.after(Command::Kill)?;
                self.state.set_phase(next);
                self.end_engine(StopCause::Killed);
                Ok(Answer::WhenOver)
            }
        }
    }

    /// Asks the guest to power off, by whatever way there is.
    fn ask_guest(&mut self, phase: Phase, grace: Duration) {
        self.ending = Some(Ending::Asked);
        self.deadline = Some(Instant::now() + grace);
        if phase == Phase::Paused
            && let Err(error) = self.engine.resume()
        {
            tracing::warn!(error = %error, "a paused guest could not be resumed to power off");
        }
        let asked = match self.control.as_mut() {
            Some(control) => control.power_off(grace),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        };
        if let Err(error) = asked {
            tracing::info!(%error, "the agent cannot be asked; pressing the power button");
            if let Err(error) = self.engine.press_power_button() {
                tracing::warn!(%error, "the power button does not work");
                self.end_engine(StopCause::TooSlow);
            }
        }
    }

    /// A deadline has passed.
    fn late(&mut self) {
        match self.ending {
            None => self.end_engine(StopCause::NeverReady),
            Some(Ending::Asked) => self.end_engine(StopCause::TooSlow),
            Some(Ending::Quit(cause) | Ending::Killed(cause)) => {
                self.engine.kill();
                self.ending = Some(Ending::Killed(cause));
                self.deadline = Some(Instant::now() + QUIT_GRACE);
            }
        }
    }

    /// Ends the engine's process: in order if it can, by force if not.
    fn end_engine(&mut self, cause: StopCause) {
        self.deadline = Some(Instant::now() + QUIT_GRACE);
        self.ending = Some(Ending::Quit(cause));
        if let Err(error) = self.engine.quit() {
            tracing::warn!(%error, "the engine does not quit; killing it");
            self.engine.kill();
            self.ending = Some(Ending::Killed(cause));
        }
    }

    fn over(self, exit: &bandsox_engine::EngineExit) -> Over {
        let reason = match self.ending {
            Some(Ending::Quit(cause) | Ending::Killed(cause)) => match cause {
                StopCause::Killed => StopReason::Requested,
                StopCause::TooSlow => StopReason::Forced,
                StopCause::NeverReady => StopReason::NotReady,
            },
            asked => match (exit.cause, asked) {
                (Some(ShutdownCause::PoweredOff | ShutdownCause::Rebooted), Some(_)) => {
                    StopReason::Requested
                }
                (Some(ShutdownCause::PoweredOff), None) => StopReason::PoweredOff,
                (Some(ShutdownCause::Rebooted), None) => StopReason::Rebooted,
                (Some(ShutdownCause::Panicked), _) => StopReason::Panicked,
                (Some(_) | None, _) => engine_died(exit),
            },
        };
        Over { reason, waiting: self.waiting }
    }
}

/// When a client hears the answer.
enum Answer {
    Now,
    WhenOver,
}

fn answer(reply: &SyncSender<Result<(), AskError>>, with: Result<(), AskError>) {
    // A client that has hung up no longer wants to know.
    if reply.send(with).is_err() {
        tracing::debug!("the client that asked has gone");
    }
}

fn engine_lost() -> StopReason {
    StopReason::EngineDied { exit: bandsox_spec::EngineExit::Unknown, detail: String::new() }
}

fn engine_died(exit: &bandsox_engine::EngineExit) -> StopReason {
    use bandsox_engine::ExitStatus;
    use bandsox_spec::EngineExit;
    let how = match exit.status {
        ExitStatus::Code(code) => EngineExit::Code { code },
        ExitStatus::Signal(signal) => EngineExit::Signal { signal },
        ExitStatus::Unknown | _ => EngineExit::Unknown,
    };
    let mut detail = exit.stderr_tail.clone();
    while detail.len() > EngineExit::MAX_DETAIL_BYTES {
        detail.remove(0);
    }
    StopReason::EngineDied { exit: how, detail }
}
