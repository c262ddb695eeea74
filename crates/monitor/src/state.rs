//! What the threads of a monitor know of the VM.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bandsox_proto::chain;
use bandsox_proto::control::{AgentInfo, Status, Transport};
use bandsox_spec::{Phase, VmId};
use bandsox_store::{Create, Lease, Store};

use crate::agent::Ready;

/// What the threads of a monitor know of the VM.
pub(crate) struct State {
    id: VmId,
    storage: PathBuf,
    lease: Option<Lease>,
    engine: bandsox_engine::EngineInfo,
    began: Instant,
    /// Clients that are being served; the server's threads count, the end waits for them.
    pub(crate) clients: Arc<AtomicUsize>,
    /// Written by the driver, read by the clients' threads.
    changing: Mutex<Changing>,
}

struct Changing {
    phase: Phase,
    agent: Option<AgentInfo>,
    ready: Option<Instant>,
}

impl State {
    pub(crate) fn new(
        id: VmId,
        storage: PathBuf,
        lease: Option<Lease>,
        engine: bandsox_engine::EngineInfo,
        began: Instant,
    ) -> Arc<Self> {
        let changing = Mutex::new(Changing { phase: Phase::Starting, agent: None, ready: None });
        Arc::new(Self { id, storage, lease, engine, began, clients: Arc::default(), changing })
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> &VmId {
        &self.id
    }

    pub(crate) fn phase(&self) -> Phase {
        self.changing().phase
    }

    /// Changes the phase, here and in the metadata.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.changing().phase = phase;
        let written = Store::open(&self.storage, Create::No)
            .map_err(|error| chain(&error))
            .and_then(|store| {
                store.update(&self.id, |m| m.set_phase(phase)).map_err(|error| chain(&error))
            });
        if let Err(error) = written {
            tracing::warn!(%error, %phase, "the phase could not be written down");
        }
    }

    pub(crate) fn set_agent(&self, ready: &Ready) {
        let mut changing = self.changing();
        changing.ready = Some(Instant::now());
        changing.agent = Some(AgentInfo {
            version: ready.hello.agent.clone(),
            protocols: ready.hello.protocols,
            kernel: ready.hello.kernel.clone(),
            boot_ms: ready.hello.boot_ms,
        });
    }

    /// When the agent said hello.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        self.changing().ready
    }

    /// Milliseconds from the start until the agent said hello.
    pub(crate) fn ready_ms(&self) -> Option<u64> {
        self.ready_at().map(|at| milliseconds(at.duration_since(self.began)))
    }

    pub(crate) fn status(&self, transport: Option<Transport>) -> Status {
        let ready_ms = self.ready_ms();
        let changing = self.changing();
        Status {
            phase: changing.phase.to_string(),
            cid: self.lease.map(|lease| lease.cid),
            port: self.lease.and_then(|lease| u16::try_from(lease.port).ok()),
            transport,
            pid: Some(self.engine.pid),
            engine: format!(
                "{} {} ({})",
                self.engine.engine, self.engine.version, self.engine.accelerator
            ),
            agent: changing.agent.clone(),
            uptime_ms: milliseconds(self.began.elapsed()),
            ready_ms,
        }
    }

    /// Gives the threads of clients a moment to pass their last answers on.
    pub(crate) fn wait_for_clients(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while self.clients.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
