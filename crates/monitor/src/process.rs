//! The monitor's process, from its first instruction to its last.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bandsox_client::PacketListener;
use bandsox_engine::{Engine, EngineEvent, Launcher};
use bandsox_image::kernel::Kernel;
use bandsox_proto::control::Transport;
use bandsox_qemu::QemuInstall;
use bandsox_qemu::vhost_user::{Front, FrontEvent};
use bandsox_spec::{EngineExit, StopReason, VmId};
use bandsox_store::log::{LogLimits, LogWriter};
use bandsox_store::{Create, Lease, ProcessIdentity, Store, VmLock};

use crate::agent;
use crate::driver::{Driver, Event, OnReady, Over};
use crate::links::{Links, Serial, Vsock, chain};
use crate::machine::{self, Lines};
use crate::report::Reporter;
use crate::server::Server;
use crate::spawn::{Report, Started};
use crate::state::State;
use crate::{console, log};

/// What `bandsox __monitor` was told.
#[derive(Clone, Debug)]
pub struct MonitorArgs {
    /// The storage directory.
    pub storage: PathBuf,
    /// Which VM; its lock is standard input.
    pub id: VmId,
    /// Leave vsock out.
    pub serial_only: bool,
    /// Run the engine without a jail.
    pub no_jail: bool,
    /// Write the log as JSON.
    pub json_log: bool,
    /// Pass the log's lines on while the VM starts.
    pub verbose: bool,
}

/// How long a guest may take from its first instruction to the agent's hello. Generous: under emulation, on a busy host,
/// seconds become tens of seconds.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How long QEMU may take to load.
const LOAD_WITHIN: Duration = Duration::from_secs(60);

/// How long clients that wait for the end get to hear of it before the process is gone.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the monitor of one VM until the VM is over.
#[must_use]
pub fn run(args: &MonitorArgs) -> ExitCode {
    // Fails only for a process that leads its group already, and then there is nothing to leave.
    if rustix::process::setsid().is_err() {
        tracing::debug!("a session leader already");
    }
    let mut reporter = match Reporter::from_stdout() {
        Ok(reporter) => reporter,
        Err(_) => return ExitCode::FAILURE,
    };
    match start_and_run(args, &reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{}", failure.message);
            reporter.send(&Report::Failed { message: failure.message, hint: failure.hint });
            ExitCode::FAILURE
        }
    }
}

/// Why a VM did not start, in words for whoever asked.
struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(error: &dyn std::error::Error) -> Self {
        Self { message: chain(error), hint: None }
    }
}

/// For errors of the operating system, which do not say what was being done.
fn doing<T>(what: &'static str) -> impl FnOnce(io::Error) -> Result<T, Failure> {
    move |error| Err(Failure { message: format!("could not {what}: {error}"), hint: None })
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(&error)
    }
}

fn start_and_run(args: &MonitorArgs, reporter: &Reporter) -> Result<(), Failure> {
    let store = Store::open(&args.storage, Create::No)?;
    let lock = store.adopt_lock_from_stdin(&args.id)?;
    let verbose = args.verbose.then(|| reporter.clone());
    private_dir(&store.paths().log_dir(&args.id)).or_else(doing("make the log directory"))?;
    let log = store.paths().monitor_log(&args.id);
    log::start(&log, args.json_log, verbose).or_else(doing("open the monitor's log"))?;
    let monitor = ProcessIdentity::current().or_else(doing("read /proc/self"))?;
    store.begin_run(&lock, &monitor)?;

    let run = Run { args, store: &store, lock: &lock };
    let (over, state) = match run.start(reporter) {
        Ok(started) => started,
        Err(failure) => {
            remove_sockets(&store, &args.id);
            let reason = StopReason::StartFailed { detail: bounded(&failure.message) };
            if let Err(error) = store.end_run(&lock, &reason) {
                tracing::error!(error = %chain(&error), "the failed start could not be written down");
            }
            return Err(failure);
        }
    };
    let Over { reason, waiting } = over;
    tracing::info!(reason = %reason, "VM is over");
    remove_sockets(&store, &args.id);
    if let Err(error) = store.end_run(&lock, &reason) {
        tracing::error!(error = %chain(&error), "the end could not be written down");
    }
    // Whoever hears of the end may start or remove the VM at once.
    drop(lock);
    let never_ready = state.ready_at().is_none();
    for reply in waiting {
        // A client that has hung up no longer wants to know.
        drop(reply.send(Ok(())));
    }
    state.wait_for_clients(FAREWELL);
    if never_ready {
        let message = format!("VM {} ended before its agent answered: {reason}", args.id);
        let hint = Some(format!("look at `bandsox logs {}`", args.id));
        return Err(Failure { message, hint });
    }
    Ok(())
}

/// As much of a text as metadata hold.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(EngineExit::MAX_DETAIL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// One run of a VM.
struct Run<'a> {
    args: &'a MonitorArgs,
    store: &'a Store,
    lock: &'a VmLock,
}

impl Run<'_> {
    fn start(&self, reporter: &Reporter) -> Result<(Over, Arc<State>), Failure> {
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

/// Makes a directory that only its owner can enter, if it is not there.
fn private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Removes what a run has in its socket directory, and the directory.
fn remove_sockets(store: &Store, id: &VmId) {
    let dir = store.paths().socket_dir(id);
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "the VM's sockets could not be removed");
    }
}
