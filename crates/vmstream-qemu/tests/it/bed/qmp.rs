//! As much of QMP as a migration takes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A connection to a QEMU's monitor.
pub(crate) struct Qmp {
    lines: BufReader<UnixStream>,
    /// What QEMU says on its standard error.
    said: PathBuf,
}

impl Qmp {
    pub(crate) fn connect(path: &Path, said: PathBuf) -> Self {
        let deadline = Instant::now() + Duration::from_secs(60);
        let socket = loop {
            match UnixStream::connect(path) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", path.display()),
            }
            thread::sleep(Duration::from_millis(10));
        };
        socket.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
        let mut qmp = Self { lines: BufReader::new(socket), said };
        qmp.line();
        qmp.ask("qmp_capabilities", json!({}));
        qmp
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        if let Err(error) = self.lines.read_line(&mut line) {
            panic!("{error}: {}", fs::read_to_string(&self.said).unwrap_or_default());
        }
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// The answer, or the error as it is.
    pub(crate) fn try_ask(&mut self, command: &str, arguments: Value) -> Result<Value, Value> {
        let text = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        self.lines.get_mut().write_all(text.as_bytes()).expect("QEMU listens");
        loop {
            let mut answer = self.line();
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = answer.get_mut("error") {
                return Err(error.take());
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let answer = self.try_ask(command, arguments.clone());
        answer.unwrap_or_else(|error| panic!("{command} {arguments}: {error}"))
    }

    pub(crate) fn capability(&mut self, name: &str, on: bool) {
        let wanted = json!([{ "capability": name, "state": on }]);
        self.ask("migrate-set-capabilities", json!({ "capabilities": wanted }));
    }
}
