//! What the tests stand on: the program, the agent as an ordinary process, and a stand-in for the
//! monitor that connects the two.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bandsox_client::files::{Parents, Source, Target, get_tree, put_tree};
use bandsox_client::{Channel, PacketListener, PacketSocket};
use bandsox_proto::control::{Op, Outcome, Reply, Request, Transport};
use bandsox_store::{Create, Store};
use serde_json::json;
use tempfile::TempDir;

/// How long anything may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// `bandsox ARGS`, without anything of this process's environment that it looks at.
pub(crate) fn bandsox() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bandsox"));
    command.stdin(Stdio::null()).env_remove("BANDSOX_STORAGE").env_remove("NO_COLOR");
    command
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// Waits until `found` finds something.
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The agent that the program carries, as an ordinary process on a unix socket.
pub(crate) struct Agent {
    process: Child,
    socket: PathBuf,
    _dir: TempDir,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("agent.sock");
        let process = Command::new(env!("BANDSOX_EMBEDDED_AGENT"))
            .arg("--listen-unix")
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()
            .expect("the agent starts");
        let agent = Self { process, socket, _dir: dir };
        eventually("the agent listens", || UnixStream::connect(&agent.socket).ok());
        agent
    }

    /// A new channel to it.
    pub(crate) fn channel(&self) -> Channel {
        let socket = UnixStream::connect(&self.socket).expect("it listens");
        Channel::new(socket, Transport::Vsock)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A storage directory with one VM, `web`, whose monitor is a thread of this process and whose
/// guest is this machine.
pub(crate) struct Bed {
    dir: TempDir,
    id: String,
    /// Channels that were opened, so that a test can cut them. Met by test and monitor threads.
    channels: Arc<Mutex<Vec<UnixStream>>>,
    /// What the client had noted.
    notes: Arc<Mutex<Vec<String>>>,
    _agent: Agent,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let agent = Agent::start();
        let store = Store::open(&dir.path().join("storage"), Create::Yes).expect("opens");
        let id = "0123456789ab".to_owned();
        let metadata = json!({
            "id": id, "name": "web", "image": "rootfs.ext4", "vcpu": 1, "mem_mib": 512,
            "disk_size_mib": 4096, "rootfs_path": "/nowhere.ext4", "network_config": null,
            "vsock_config": {"enabled": true}, "created_at": 1_700_000_000.0,
            "status": "created", "pid": null, "env_vars": {"FROM_VM": "yes"}, "mcp": null,
            "metadata": {},
        });
        let vm = id.parse().expect("an id");
        fs::write(store.paths().metadata(&vm), metadata.to_string()).expect("written");
        let sockets = store.paths().socket_dir(&vm);
        fs::create_dir_all(&sockets).expect("created");
        let listener = PacketListener::bind(&store.paths().control_socket(&vm)).expect("listens");
        let bed = Self { dir, id, channels: Arc::default(), notes: Arc::default(), _agent: agent };
        bed.serve(listener);
        bed
    }

    /// `bandsox --storage … ARGS`.
    pub(crate) fn bandsox(&self, args: &[&str]) -> Command {
        let mut command = bandsox();
        command.arg("--storage").arg(self.dir.path().join("storage")).args(args);
        command
    }

    /// A path for the test's own use.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Cuts every channel that is open.
    pub(crate) fn cut(&self) -> usize {
        let mut channels = self.channels.lock().expect("no panic");
        for channel in channels.iter() {
            channel.shutdown(std::net::Shutdown::Both).ok();
        }
        std::mem::take(&mut *channels).len()
    }

    /// What the client had the monitor log.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("no panic").clone()
    }

    fn serve(&self, listener: PacketListener) {
        let monitor = StandIn {
            agent: self._agent.socket.clone(),
            id: self.id.clone(),
            channels: Arc::clone(&self.channels),
            notes: Arc::clone(&self.notes),
        };
        thread::spawn(move || {
            while let Ok(socket) = listener.accept() {
                let monitor = monitor.clone();
                thread::spawn(move || monitor.converse(&socket));
            }
        });
    }
}

/// Does what a monitor does, with the files' bytes through the client's own drivers.
#[derive(Clone)]
struct StandIn {
    agent: PathBuf,
    id: String,
    channels: Arc<Mutex<Vec<UnixStream>>>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn converse(&self, socket: &PacketSocket) {
        socket.receive().ok();
        let hello = json!({"hello": {"version": 1, "monitor": "stand-in", "vm": self.id}});
        socket.send(hello.to_string().as_bytes(), &[]).ok();
        while let Ok(Some(packet)) = socket.receive() {
            let Request { id, op } = serde_json::from_slice(&packet.bytes).expect("a request");
            let file = packet.descriptors.into_iter().next();
            let mut channel = None;
            let outcome = match op {
                Op::OpenChannel { .. } => {
                    let opened = self.open();
                    channel = Some(opened);
                    Outcome::Ok(json!({"transport": "vsock"}))
                }
                Op::PutFile { path_b64, name_b64, size, .. } => {
                    let file = file.expect("a descriptor");
                    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
                    let source = Source::open(Path::new(&path)).expect("opens");
                    let channel = Channel::new(self.open(), Transport::Vsock);
                    let name = name_b64.map(|name| name.0);
                    match put_tree(&channel, source, path_b64.0, name, &mut |_| ()) {
                        Ok(_) => {
                            Outcome::Ok(json!({"bytes": size, "transport": "vsock", "xxh64": "0"}))
                        }
                        Err(error) => failed(&error),
                    }
                }
                Op::GetFile { path_b64, .. } => {
                    let file = file.expect("a descriptor");
                    self.get(&path_b64.0, fs::File::from(file))
                }
                Op::Note { event, path_b64, bytes, .. } => {
                    let note = format!("{event:?} {} {bytes}", path_b64.0);
                    self.notes.lock().expect("no panic").push(note);
                    Outcome::Ok(json!({}))
                }
                Op::Status | Op::Pause | Op::Resume | Op::Stop { .. } | Op::Kill => {
                    Outcome::Ok(json!({}))
                }
            };
            let reply = serde_json::to_vec(&Reply { id, outcome }).expect("serialises");
            let passed: Vec<_> = channel.iter().map(|channel| channel.as_fd()).collect();
            socket.send(&reply, &passed).ok();
        }
    }

    fn open(&self) -> UnixStream {
        let channel = UnixStream::connect(&self.agent).expect("it listens");
        let copy = channel.try_clone().expect("a descriptor");
        self.channels.lock().expect("no panic").push(copy);
        channel
    }

    fn get(&self, path: &bandsox_proto::ByteString, mut file: fs::File) -> Outcome {
        let found = fs::metadata(path.as_path());
        if found.as_ref().is_ok_and(fs::Metadata::is_dir) {
            let error = json!({"code": "is_a_directory", "message": "it is a directory"});
            return Outcome::Error(serde_json::from_value(error).expect("an error"));
        }
        let dir = tempfile::tempdir().expect("a directory");
        let copy = dir.path().join("copy");
        let target = Target::resolve(&copy, None, Parents::Require).expect("resolves");
        let channel = Channel::new(self.open(), Transport::Vsock);
        match get_tree(&channel, path.clone(), &target, u64::MAX, &mut |_| ()) {
            Ok(_) => {
                let copied = fs::File::open(&copy)
                    .and_then(|mut from| std::io::copy(&mut from, &mut file))
                    .expect("copied");
                // As an agent that lies would have it: with every permission bit.
                Outcome::Ok(json!({
                    "size": copied, "mode": 0o7755, "mtime_ns": 1_234_567_890_123_456_789_i64,
                    "xxh64": "0", "transport": "vsock",
                }))
            }
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Outcome {
    let error = json!({"code": "failed", "message": error.to_string()});
    Outcome::Error(serde_json::from_value(error).expect("an error"))
}
