//! The control socket: one thread per client, one request at a time each.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use bandsox_client::{Packet, PacketError, PacketListener, PacketSocket};
use bandsox_proto::chain;
use bandsox_proto::control::{
    Chosen, ClientHello, ControlError, Fetched, MonitorHello, Nothing, Op, Opened, PathB64, Reply,
    Request, Stored, TransferEvent, Transport, VERSION,
};
use bandsox_spec::{Command, Phase};

use crate::driver::{Ask, AskError, Event};
use crate::links::{Channel, Links, OpenError};
use crate::state::State;
use crate::transfer::{self, FileFacts, TransferError};

/// Most clients at once; one more is turned away.
const MAX_CLIENTS: usize = 128;

/// How often a client hears of its transfer's progress, and whether it is still there is looked at.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What a client's thread needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) state: Arc<State>,
    pub(crate) links: Arc<Links>,
    pub(crate) driver: Sender<Event>,
    /// Clients that are being served.
    pub(crate) clients: Arc<AtomicUsize>,
}

impl Server {
    /// Takes clients until the process ends.
    pub(crate) fn serve(&self, listener: &PacketListener) {
        loop {
            let socket = match listener.accept() {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if self.clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
                self.clients.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!("a client was turned away: {MAX_CLIENTS} are here already");
                continue;
            }
            let server = self.clone();
            let thread = std::thread::Builder::new().name("client".to_owned());
            let spawned = thread.stack_size(256 * 1024).spawn(move || {
                let session = Session { server: &server, socket };
                if let Err(error) = session.run() {
                    tracing::debug!(error = %chain(&error), "a client's connection ended");
                }
                server.clients.fetch_sub(1, Ordering::Relaxed);
            });
            if let Err(error) = spawned {
                self.clients.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%error, "no thread for a client");
            }
        }
    }
}

/// One client.
struct Session<'a> {
    server: &'a Server,
    socket: PacketSocket,
}

/// Why a client is served no longer.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the client's connection failed")]
    Packet(#[from] PacketError),
    #[error("the client's credentials could not be read")]
    Credentials(#[from] std::io::Error),
    #[error("the client is user {uid}")]
    Stranger { uid: u32 },
    #[error("the client's packet makes no sense")]
    Malformed(#[from] serde_json::Error),
    #[error("the client speaks versions {theirs:?}, this monitor {VERSION}")]
    Version { theirs: Vec<u32> },
}

/// What a request got: the reply's content, and a descriptor to go with it.
type Answer = Result<(serde_json::Value, Option<std::os::unix::net::UnixStream>), ControlError>;

impl Session<'_> {
    fn run(&self) -> Result<(), SessionError> {
        let uid = self.socket.peer_uid()?;
        if uid != 0 && uid != rustix::process::geteuid().as_raw() {
            return Err(SessionError::Stranger { uid });
        }
        let Some(Packet { bytes, descriptors: _ }) = self.socket.receive()? else { return Ok(()) };
        let ClientHello { hello } = serde_json::from_slice(&bytes)?;
        self.say_hello()?;
        if !hello.versions.contains(&VERSION) {
            return Err(SessionError::Version { theirs: hello.versions });
        }
        while let Some(Packet { bytes, descriptors }) = self.socket.receive()? {
            let Request { id, op } = serde_json::from_slice(&bytes)?;
            let file = descriptors.into_iter().next().map(File::from);
            let (reply, passed) = match self.answer(id, op, file) {
                Ok((content, passed)) => (Reply::ok(id, &content), passed),
                Err(error) => (Reply::error(id, error), None),
            };
            let passed: Vec<BorrowedFd<'_>> = passed.iter().map(AsFd::as_fd).collect();
            self.socket.send(&serde_json::to_vec(&reply)?, &passed)?;
        }
        Ok(())
    }

    fn say_hello(&self) -> Result<(), SessionError> {
        let hello = MonitorHello {
            hello: Chosen {
                version: VERSION,
                monitor: env!("CARGO_PKG_VERSION").to_owned(),
                vm: self.server.state.id().to_string(),
            },
        };
        Ok(self.socket.send(&serde_json::to_vec(&hello)?, &[])?)
    }

    fn answer(&self, id: u64, op: Op, file: Option<File>) -> Answer {
        match op {
            Op::Status => json(&self.server.state.status(self.server.links.preferred())),
            Op::Pause => self.ask(Ask::Pause),
            Op::Resume => self.ask(Ask::Resume),
            Op::Stop { timeout_ms } => self.ask(Ask::Stop(Duration::from_millis(timeout_ms))),
            Op::Kill => self.ask(Ask::Kill),
            Op::OpenChannel { transport } => {
                let channel = self.channel(transport)?;
                let opened = Opened { transport: channel.transport() };
                json(&opened).map(|(content, _)| (content, Some(channel.into_socket())))
            }
            Op::PutFile { path_b64, name_b64, mode, mtime_ns, uid, gid, size, transport } => {
                let file = file.ok_or_else(no_file)?;
                let facts = FileFacts { size, mode, mtime_ns, uid, gid };
                self.put(id, &file, path_b64, name_b64, facts, transport)
            }
            Op::GetFile { path_b64, transport } => {
                let file = file.ok_or_else(no_file)?;
                self.get(id, &file, path_b64, transport)
            }
            Op::Note { event, transport, path_b64, bytes } => {
                log_transfer(event, transport, &path_b64, bytes);
                json(&Nothing {})
            }
        }
    }

    fn ask(&self, ask: Ask) -> Answer {
        let (reply, answer) = mpsc::sync_channel(1);
        let asked = self.server.driver.send(Event::Asked(ask, reply));
        let answered = asked.map_err(|_| AskError::GoingDown);
        let answered = answered.and_then(|()| answer.recv().map_err(|_| AskError::GoingDown));
        match answered.and_then(|result| result) {
            Ok(()) => json(&Nothing {}),
            Err(error) => Err(ask_failed(&error)),
        }
    }

    fn channel(&self, transport: Option<Transport>) -> Result<Channel, ControlError> {
        let phase = self.server.state.phase();
        phase.after(Command::Use).map_err(|refused| ControlError {
            code: "wrong_phase".to_owned(),
            message: refused.to_string(),
            hint: (phase == Phase::Paused).then(|| "run `bandsox resume` first".to_owned()),
        })?;
        self.server.links.open(transport).map_err(|error| open_failed(&error))
    }

    fn put(
        &self,
        id: u64,
        file: &File,
        path: PathB64,
        name: Option<PathB64>,
        facts: FileFacts,
        transport: Option<Transport>,
    ) -> Answer {
        let channel = self.channel(transport)?;
        let transport = channel.transport();
        let (path, xxh64) = self.moving(id, channel, |channel, progress| {
            transfer::put(channel, file, path.0, name.map(|name| name.0), &facts, progress)
        })?;
        let path = PathB64(path);
        log_transfer(TransferEvent::Upload, transport, &path, facts.size);
        let xxh64 = format!("{xxh64:016x}");
        json(&Stored { path_b64: Some(path), bytes: facts.size, transport, xxh64 })
    }

    fn get(&self, id: u64, file: &File, path: PathB64, transport: Option<Transport>) -> Answer {
        let channel = self.channel(transport)?;
        let transport = channel.transport();
        let source = path.clone();
        let (facts, xxh64) = self.moving(id, channel, |channel, progress| {
            transfer::get(channel, file, source.0, progress)
        })?;
        let FileFacts { size, mode, mtime_ns, uid: _, gid: _ } = facts;
        log_transfer(TransferEvent::Download, transport, &path, size);
        json(&Fetched { size, mode, mtime_ns, xxh64: format!("{xxh64:016x}"), transport })
    }

    /// Runs a transfer beside this thread, which reports its progress and ends it when the client hangs up.
    fn moving<T: Send>(
        &self,
        id: u64,
        channel: Channel,
        work: impl FnOnce(Channel, &AtomicU64) -> Result<T, TransferError> + Send,
    ) -> Result<T, ControlError> {
        let progress = AtomicU64::new(0);
        let cancel = channel.socket().try_clone().map_err(TransferError::from);
        let cancel = cancel.map_err(|error| transfer_failed(&error))?;
        std::thread::scope(|scope| {
            let (done, finished) = mpsc::sync_channel::<()>(1);
            let thread = std::thread::Builder::new().name("transfer".to_owned());
            let moved = thread.stack_size(256 * 1024).spawn_scoped(scope, || {
                let result = work(channel, &progress);
                drop(done);
                result
            });
            let moved = moved.map_err(|error| transfer_failed(&error.into()))?;
            let mut told = 0;
            // Nothing is ever sent: the channel ends when the work does.
            while let Err(RecvTimeoutError::Timeout) = finished.recv_timeout(PROGRESS_EVERY) {
                let bytes = progress.load(Ordering::Relaxed);
                if !self.still_wanted(id, bytes, &mut told) {
                    // Fails only if the channel is gone already.
                    drop(cancel.shutdown(std::net::Shutdown::Both));
                }
            }
            match moved.join() {
                Ok(result) => result.map_err(|error| transfer_failed(&error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Tells the client how far its transfer is; `false` if it has hung up.
    fn still_wanted(&self, id: u64, bytes: u64, told: &mut u64) -> bool {
        if *told != bytes {
            *told = bytes;
            let packet = serde_json::to_vec(&Reply::progress(id, bytes)).unwrap_or_default();
            if self.socket.send(&packet, &[]).is_err() {
                return false;
            }
        }
        // A client says nothing while it waits, so what can be read now is its end.
        !self.socket.wait(Duration::ZERO).unwrap_or(true)
    }
}

fn json<T: serde::Serialize>(content: &T) -> Answer {
    let value = serde_json::to_value(content).map_err(|error| ControlError {
        code: "internal".to_owned(),
        message: error.to_string(),
        hint: None,
    })?;
    Ok((value, None))
}

fn log_transfer(event: TransferEvent, transport: Transport, path: &PathB64, bytes: u64) {
    let way = match event {
        TransferEvent::Upload => "uploaded",
        TransferEvent::Download => "downloaded",
    };
    let over = match transport {
        Transport::Vsock => "vsock",
        Transport::Serial => "agent",
    };
    tracing::info!("File {way} via {over}: {} ({bytes} bytes)", path.0);
}

fn no_file() -> ControlError {
    ControlError {
        code: "invalid".to_owned(),
        message: "the request came without a file descriptor".to_owned(),
        hint: None,
    }
}

fn ask_failed(error: &AskError) -> ControlError {
    let code = match error {
        AskError::Refused(_) => "wrong_phase",
        AskError::Engine(_) => "engine",
        AskError::GoingDown => "going_down",
    };
    ControlError { code: code.to_owned(), message: chain(error), hint: None }
}

fn open_failed(error: &OpenError) -> ControlError {
    let hint = match error {
        OpenError::NoVsock => Some("leave out --transport, or use --transport serial"),
        OpenError::Vsock(_) => Some("use --transport serial, and look at `bandsox logs`"),
        OpenError::Serial(_) | OpenError::NoSerial => Some("look at `bandsox logs`"),
    };
    ControlError {
        code: "no_channel".to_owned(),
        message: chain(error),
        hint: hint.map(str::to_owned),
    }
}

fn transfer_failed(error: &TransferError) -> ControlError {
    let code = match error {
        TransferError::Refused(fault) => fault.code.name(),
        TransferError::Checksum { .. } => "checksum_mismatch",
        TransferError::Io(_) => "io",
        TransferError::Ended | TransferError::Read(_) => "ended",
        TransferError::Preamble(_)
        | TransferError::Decode(_)
        | TransferError::Unexpected { .. }
        | TransferError::Entry(_) => "protocol",
    };
    ControlError { code: code.to_owned(), message: chain(error), hint: None }
}
