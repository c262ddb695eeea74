//! A QEMU's monitor. What it does not answer, the test fails by.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bandsox_qmp::{Client, ClientError, Refusal};
use serde_json::{Value, json};

/// A connection to a QEMU's monitor.
pub(crate) struct Qmp {
    client: Client,
    /// What QEMU says on its standard error.
    said: PathBuf,
}

/// Connects to a QEMU that is being started.
pub(crate) fn client(path: &Path) -> Client {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Client::connect(path, Duration::from_secs(120)) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error}: {error:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

impl Qmp {
    pub(crate) fn connect(path: &Path, said: PathBuf) -> Self {
        Self { client: client(path), said }
    }

    /// The answer, or the error as it is.
    pub(crate) fn try_ask(&mut self, command: &str, arguments: Value) -> Result<Value, Refusal> {
        match self.client.run(command, arguments) {
            Ok(answer) => Ok(answer),
            Err(ClientError::Refused { refusal, .. }) => Err(refusal),
            Err(error) => {
                panic!("{error:?}: {}", fs::read_to_string(&self.said).unwrap_or_default())
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let answer = self.try_ask(command, arguments.clone());
        answer.unwrap_or_else(|error| panic!("{command} {arguments}: {error:?}"))
    }

    pub(crate) fn capability(&mut self, name: &str, on: bool) {
        let wanted = json!([{ "capability": name, "state": on }]);
        self.ask("migrate-set-capabilities", json!({ "capabilities": wanted }));
    }
}
