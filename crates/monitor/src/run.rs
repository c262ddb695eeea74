//! One run of a VM: from its metadata to a machine that boots, with all that serves it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bandsox_client::PacketListener;
use bandsox_engine::{Engine, EngineEvent, Launcher};
use bandsox_image::kernel::Kernel;
use bandsox_proto::control::Transport;
use bandsox_qemu::QemuInstall;
use bandsox_qemu::vhost_user::{Front, FrontEvent};
use bandsox_spec::VmId;
use bandsox_store::log::{LogLimits, LogWriter};
use bandsox_store::{Lease, Store, VmLock};

use crate::driver::{Driver, Event, OnReady, Over};
use crate::links::{Links, Serial, Vsock};
use crate::machine::{self, Lines};
use crate::process::{Failure, MonitorArgs, doing, private_dir, remove_sockets};
use crate::report::Reporter;
use crate::server::Server;
use crate::spawn::{Report, Started};
use crate::state::State;
use crate::{agent, console};

/// How long a guest may take from its first instruction to the agent's hello. Generous: under emulation, on a busy host,
/// seconds become tens of seconds.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How long QEMU may take to load.
const LOAD_WITHIN: Duration = Duration::from_secs(60);

/// One run of a VM.
pub(crate) struct Run<'a> {
    pub(crate) args: &'a MonitorArgs,
    pub(crate) store: &'a Store,
    pub(crate) lock: &'a VmLock,
}

impl Run<'_> {
    /// Boots the machine and serves it until it is over.
    pub(crate) fn start(&self, reporter: &Reporter) -> Result<(Over, Arc<State>), Failure> {
        let began = Instant::now();
        let metadata = self.store.read(&self.args.id)?;
        let asked = if self.args.serial_only {
            bandsox_store::Transport::Serial
        } else {
            bandsox_store::Transport::Vsock
        };
        let transport = metadata.vsock().transport(asked)?;
        let kernel = Kernel::load(self.store.paths().root())?;
        let kvm = bandsox_engine::probe_kvm();
        let accelerator = bandsox_engine::select(metadata.engine(), &kvm)?;
        let install = QemuInstall::find(None)?;

        let lease = match transport {
            bandsox_store::Transport::Vsock => Some(self.store.lease(self.lock)?),
            bandsox_store::Transport::Serial => None,
        };
        let pair = lease.map(|_| UnixStream::pair()).transpose();
        let pair = pair.or_else(doing("make a socket pair"))?;
        let (ours, theirs) = pair.unzip();
        let vsock = lease.zip(theirs).map(|(lease, fd)| (OwnedFd::from(fd), lease.port));
        let (machine, lines) = machine::build(self.store, &metadata, &kernel, vsock)?;

        let launcher = self.launcher(lease);
        tracing::info!(engine = "qemu", accelerator = %accelerator, jail = %launcher.describe(), "starting");
        let starting = bandsox_qemu::launch(&install, machine, accelerator, &*launcher)?;
        self.confine();
        let device = match lease.zip(ours) {
            Some((lease, socket)) => Some(serve_device(lease, socket)?),
            None => None,
        };
        let (engine_events, engine_happens) = mpsc::channel();
        let (engine, sealed) = starting.connect(engine_events, LOAD_WITHIN)?;
        tracing::info!(applied = ?sealed.applied, missing = ?sealed.missing, "engine is sealed");
        self.boot(Booting { engine, engine_happens, device, lines, lease, began }, reporter)
    }

    /// Gives up what this process needs no longer. Its threads are made after this, and inherit it.
    fn confine(&self) {
        let needs = bandsox_jail::MonitorNeeds {
            read_write: vec![self.store.paths().root().to_owned()],
            read: vec!["/proc".into()],
        };
        let report = bandsox_jail::confine_monitor(&needs);
        tracing::info!(applied = ?report.applied, missing = ?report.missing, "monitor is confined");
    }

    fn launcher(&self, lease: Option<Lease>) -> Box<dyn Launcher> {
        if self.args.no_jail {
            return Box::new(bandsox_jail::NoJail::default());
        }
        let cid = lease.map_or_else(|| number_without_lease(&self.args.id), |lease| lease.cid);
        Box::new(bandsox_jail::Jail::new(self.args.id.as_str(), cid))
    }

    fn boot(&self, booting: Booting, reporter: &Reporter) -> Result<(Over, Arc<State>), Failure> {
        let Booting { mut engine, engine_happens, device, lines, lease, began } = booting;
        let (events, happens) = mpsc::channel();
        forward(engine_happens, events.clone()).or_else(doing("start a thread"))?;
        let console_log = self.store.paths().console_log(&self.args.id);
        let console_log = LogWriter::open(&console_log, LogLimits::default())
            .or_else(doing("open the console's log"))?;
        console::pump(lines.console, console_log).or_else(doing("start a thread"))?;

        let serial = Serial::new();
        for line in [lines.port, lines.uart] {
            let events = events.clone();
            serial.attach(line.into(), epoch(), move |socket| {
                agent::greet(socket, Transport::Serial, events.clone());
            })?;
        }
        let sockets = self.socket_dir().or_else(doing("make the socket directory"))?;
        let (vsock, guards) = match (device, lease) {
            (Some((device, front)), Some(lease)) => {
                let events = events.clone();
                let port = lease.port;
                let hello = device.listen(
                    port,
                    Box::new(move |stream| {
                        agent::greet(stream.into_socket(), Transport::Vsock, events.clone());
                    }),
                )?;
                let dir = rustix::fs::open(
                    &sockets,
                    rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
                    rustix::fs::Mode::empty(),
                )?;
                let unix = device.serve_unix(dir, Path::new("vsock.sock"))?;
                (Some(Vsock { device, port }), Some((hello, unix, front)))
            }
            _ => (None, None),
        };
        let links = Arc::new(Links::new(vsock, serial));
        let listener = PacketListener::bind(&self.store.paths().control_socket(&self.args.id))?;
        let info = engine.info().clone();
        let state = State::new(self.args.id.clone(), self.args.storage.clone(), lease, info, began);
        let server = Server {
            state: Arc::clone(&state),
            links: Arc::clone(&links),
            driver: events,
            clients: Arc::clone(&state.clients),
        };
        let accepting = std::thread::Builder::new().name("control".to_owned());
        accepting.stack_size(128 * 1024).spawn(move || server.serve(&listener))?;

        engine.boot()?;
        let tell = self.tell_ready(&state, &links, lease, reporter.clone());
        let driver = Driver::new(Box::new(engine), happens, Arc::clone(&state), READY_WITHIN, tell);
        let over = driver.run();
        drop(guards);
        Ok((over, state))
    }

    /// What happens once, when the agent has said hello.
    fn tell_ready(
        &self,
        state: &Arc<State>,
        links: &Arc<Links>,
        lease: Option<Lease>,
        mut reporter: Reporter,
    ) -> OnReady {
        let (state, links) = (Arc::clone(state), Arc::clone(links));
        let no_jail = self.args.no_jail;
        Box::new(move |ready| {
            links.prefer(ready.transport);
            let mut warnings = Vec::new();
            if no_jail {
                warnings.push(
                    "--no-jail: the engine runs with everything that this user may do".to_owned(),
                );
            }
            match (ready.transport, lease) {
                (Transport::Vsock, Some(Lease { cid, port })) => {
                    tracing::info!("Vsock enabled: CID={cid}, Port={port}");
                }
                (_, Some(_)) => {
                    let warning = "Vsock connection failed: the guest kernel might not have vsock module support; \
                                   using the serial link, which is slower";
                    tracing::warn!("{warning}");
                    warnings.push(warning.to_owned());
                }
                (_, None) => tracing::info!("running over serial"),
            }
            let lease = lease.filter(|_| ready.transport == Transport::Vsock);
            reporter.send(&Report::Started(Started {
                cid: lease.map(|lease| lease.cid),
                port: lease.map(|lease| lease.port),
                transport: agent::name(ready.transport).to_owned(),
                pid: std::process::id(),
                ready_ms: state.ready_ms().unwrap_or(0),
                warnings,
            }));
            reporter.close();
        })
    }

    fn socket_dir(&self) -> io::Result<PathBuf> {
        remove_sockets(self.store, &self.args.id);
        let dir = self.store.paths().socket_dir(&self.args.id);
        private_dir(&dir)?;
        Ok(dir)
    }
}

/// A machine that is loaded and has not run yet.
struct Booting {
    engine: bandsox_qemu::QemuEngine,
    engine_happens: mpsc::Receiver<EngineEvent>,
    device: Option<(bandsox_vsock::Handle, Front)>,
    lines: Lines,
    lease: Option<Lease>,
    began: Instant,
}

/// Starts the vsock device and its vhost-user front: QEMU connects to it while it loads.
fn serve_device(
    lease: Lease,
    socket: UnixStream,
) -> Result<(bandsox_vsock::Handle, Front), Failure> {
    let device = bandsox_vsock::Handle::start()?;
    let front = Front::serve(socket, device.clone(), lease.cid, |event| match event {
        FrontEvent::Failed(error) => {
            tracing::error!(%error, "vsock: the engine's connection failed")
        }
        event @ (FrontEvent::Attached | FrontEvent::Detached | FrontEvent::HungUp | _) => {
            tracing::debug!(?event, "vsock");
        }
    })?;
    Ok((device, front))
}

fn forward(from: mpsc::Receiver<EngineEvent>, to: mpsc::Sender<Event>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("engine-events".to_owned());
    thread.stack_size(128 * 1024).spawn(move || {
        for event in from {
            if to.send(Event::Engine(event)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// What stands in for the CID of a VM that has none, when its engine needs a user id of its own: above all CIDs.
fn number_without_lease(id: &VmId) -> u32 {
    let hash = xxhash_rust::xxh64::xxh64(id.as_str().as_bytes(), 0);
    0x1000 + u32::try_from(hash % 0xe000).unwrap_or(0)
}

/// A number that no earlier link of this VM is likely to have had.
fn epoch() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    u32::try_from(random & u64::from(u32::MAX)).unwrap_or(1)
}
