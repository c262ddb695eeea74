//! An agent to talk to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    Exec, Exit, FrameReader, Output, Reply, Request, SessionId, Started, StreamName, preamble,
};
use tempfile::TempDir;

/// Nothing here takes seconds; a busy machine may make it so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Guest {
    pub(crate) dir: TempDir,
    process: Child,
}

impl Guest {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("agent.sock");
        let process = Command::new(env!("CARGO_BIN_EXE_bandsox-agent"))
            .arg("--listen-unix")
            .arg(&socket)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .expect("the agent starts");
        let guest = Self { dir, process };
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < until, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        guest
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> ByteString {
        self.path(name).into()
    }

    pub(crate) fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path("agent.sock")).expect("the agent listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    pub(crate) fn connect(&self) -> Client {
        let mut stream = self.raw();
        stream.write_all(&preamble::CLIENT).expect("writes");
        preamble::receive_agent(&mut stream).expect("speaks version 2");
        Client { frames: FrameReader::new(stream) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.process.kill().expect("still there");
        self.process.wait().expect("it was killed");
    }
}

pub(crate) struct Client {
    pub(crate) frames: FrameReader<UnixStream>,
}

/// All that a session said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exit: Exit,
}

impl Client {
    pub(crate) fn say(&mut self, request: &Request) {
        let frame = request.to_frame().expect("fits");
        self.frames.raw().write_all(&frame).expect("writes");
    }

    pub(crate) fn hear(&mut self) -> Reply {
        let frame = self.frames.read().expect("a frame").expect("not the end");
        Reply::decode(frame.kind, frame.payload).expect("a reply")
    }

    pub(crate) fn at_end(&mut self) -> bool {
        matches!(self.frames.read(), Ok(None) | Err(_))
    }

    pub(crate) fn raw(&mut self) -> &mut UnixStream {
        self.frames.raw()
    }

    pub(crate) fn started(&mut self) -> Started {
        match self.hear() {
            Reply::Started(started) => started,
            other => panic!("not Started: {other:?}"),
        }
    }

    pub(crate) fn output(&mut self) -> Output {
        loop {
            match self.hear() {
                Reply::Output(output) => return output,
                Reply::StdinAck(_) => {}
                other => panic!("not Output: {other:?}"),
            }
        }
    }

    /// Collects output to the exit, confirming all of it.
    pub(crate) fn rest(&mut self) -> Said {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.hear() {
                Reply::Output(output) => {
                    match output.stream {
                        StreamName::Stdout => stdout.extend(output.data),
                        StreamName::Stderr => stderr.extend(output.data),
                    }
                    self.ack(output.seq + 1);
                }
                Reply::Exit(exit) => {
                    self.ack(exit.seq + 1);
                    return Said { stdout, stderr, exit };
                }
                Reply::StdinAck(_) => {}
                other => panic!("not of a session: {other:?}"),
            }
        }
    }

    pub(crate) fn ack(&mut self, seq: u64) {
        self.say(&Request::Ack(bandsox_proto::v2::Ack { seq }));
    }

    pub(crate) fn run(&mut self, exec: Exec) -> Said {
        self.say(&Request::Exec(exec));
        self.started();
        self.rest()
    }

    pub(crate) fn shell(&mut self, script: &str) -> Said {
        self.run(shell(script))
    }
}

pub(crate) fn command(argv: &[&str]) -> Exec {
    Exec::new(fresh_id(), argv.iter().map(|word| ByteString::from(*word)).collect())
}

pub(crate) fn shell(script: &str) -> Exec {
    command(&["sh", "-c", script])
}

pub(crate) fn fresh_id() -> SessionId {
    let mut id = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut id))
        .expect("random");
    SessionId(id)
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there, a zombie not counted.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}
