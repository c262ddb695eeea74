//! One of the two QEMUs, through its monitor.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bandsox_qmp::{Client, ClientError};
use rustix::net::sockopt;
use serde_json::{Value, json};
use vmstream_qmp::Contract;

use crate::error::BridgeError;
use crate::memory::{Block, blocks};

/// How long QEMU may take for one answer: while it stops a guest it answers nobody.
const PATIENCE: Duration = Duration::from_secs(60);
/// What QEMU calls our end of its migration.
const NAME: &str = "vmstream-bridge";
/// Bytes that may wait for a QEMU that takes a guest: with less it runs dry while the next frame comes.
const AHEAD: usize = 1 << 20;

/// A QEMU, by its monitor.
#[derive(Debug)]
pub struct Machine {
    client: Client,
}

/// How far a migration is, as its source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// QEMU's name for the state: `active`, `postcopy-active`, `completed`, ….
    pub status: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes of memory that are still to be sent.
    pub remaining: u64,
    /// Passes over memory, the first one being 1.
    pub pass: u64,
    /// Since it began, in milliseconds.
    pub total_ms: u64,
    /// How long the guest stood still, in milliseconds, when it is over.
    pub downtime_ms: Option<u64>,
}

impl Progress {
    /// Whether it ended without success.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        ["failed", "cancelled"].contains(&self.status.as_str())
    }

    /// Whether the guest runs at the destination already, while the source has pages of it.
    #[must_use]
    pub fn is_postcopy(&self) -> bool {
        self.status.starts_with("postcopy")
    }
}

impl Machine {
    /// Connects to QEMU's QMP socket.
    ///
    /// # Errors
    ///
    /// [`BridgeError::Qmp`]
    pub fn connect(socket: &Path) -> Result<Self, BridgeError> {
        Ok(Self { client: Client::connect(socket, PATIENCE)? })
    }

    pub(crate) fn contract(&mut self) -> Result<Contract, BridgeError> {
        Ok(vmstream_qmp::read(&mut self.client)?)
    }

    /// What the guest does: `running`, `paused`, `inmigrate`, ….
    pub(crate) fn status(&mut self) -> Result<String, BridgeError> {
        let answer = self.client.run("query-status", json!({}))?;
        Ok(text(&answer, "status"))
    }

    /// The capabilities that are on.
    pub(crate) fn capabilities(&mut self) -> Result<BTreeSet<String>, BridgeError> {
        let answer = self.client.run("query-migrate-capabilities", json!({}))?;
        let all = answer.as_array().into_iter().flatten();
        let on = all.filter(|entry| entry.get("state").and_then(Value::as_bool) == Some(true));
        Ok(on.map(|entry| text(entry, "capability")).collect())
    }

    /// Turns a capability on or off.
    pub(crate) fn set_capability(&mut self, name: &str, on: bool) -> Result<(), ClientError> {
        let wanted = json!({ "capabilities": [{ "capability": name, "state": on }] });
        self.client.run("migrate-set-capabilities", wanted).map(drop)
    }

    pub(crate) fn set_parameter(&mut self, name: &str, value: u64) -> Result<(), BridgeError> {
        self.client.run("migrate-set-parameters", json!({ name: value }))?;
        Ok(())
    }

    /// How many networks of the kind `user` there are. QMP itself does not tell.
    pub(crate) fn user_networks(&mut self) -> Result<u32, BridgeError> {
        let count = self.monitor("info network")?.matches(",type=user,").count();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The blocks of memory that there are. QMP itself does not tell.
    pub(crate) fn blocks(&mut self) -> Result<Vec<Block>, BridgeError> {
        Ok(blocks(&self.monitor("info ramblock")?))
    }

    fn monitor(&mut self, line: &str) -> Result<String, BridgeError> {
        let command = json!({ "command-line": line });
        let answer = self.client.run("human-monitor-command", command)?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Has QEMU send its guest into a socket; this is the other end.
    pub(crate) fn migrate(&mut self) -> Result<UnixStream, BridgeError> {
        self.begin("migrate")
    }

    /// Has QEMU take a guest from a socket; this is the other end.
    pub(crate) fn migrate_incoming(&mut self) -> Result<UnixStream, BridgeError> {
        let qemu = self.begin("migrate-incoming")?;
        // More than that only root may ask for; less is slower, and no fault.
        let forced = sockopt::set_socket_send_buffer_size_force(&qemu, AHEAD);
        forced.or_else(|_| sockopt::set_socket_send_buffer_size(&qemu, AHEAD)).unwrap_or_default();
        Ok(qemu)
    }

    fn begin(&mut self, command: &str) -> Result<UnixStream, BridgeError> {
        let (ours, theirs) = UnixStream::pair()?;
        self.client.give_fd(NAME, theirs.as_fd())?;
        drop(theirs);
        self.client.run(command, json!({ "uri": format!("fd:{NAME}") }))?;
        Ok(ours)
    }

    /// Goes over to postcopy as soon as that is possible.
    pub(crate) fn start_postcopy(&mut self) -> Result<(), BridgeError> {
        self.client.run("migrate-start-postcopy", json!({}))?;
        Ok(())
    }

    /// Has the guest stand still.
    pub(crate) fn pause(&mut self) -> Result<(), BridgeError> {
        self.client.run("stop", json!({}))?;
        Ok(())
    }

    pub(crate) fn cancel(&mut self) -> Result<(), BridgeError> {
        self.client.run("migrate_cancel", json!({}))?;
        Ok(())
    }

    /// How far the migration is.
    pub(crate) fn progress(&mut self) -> Result<Progress, BridgeError> {
        let answer = self.client.run("query-migrate", json!({}))?;
        let number = |path: &str| answer.pointer(path).and_then(Value::as_u64);
        Ok(Progress {
            status: text(&answer, "status"),
            error: answer.get("error-desc").and_then(Value::as_str).map(str::to_owned),
            sent: number("/ram/transferred").unwrap_or(0),
            remaining: number("/ram/remaining").unwrap_or(0),
            pass: number("/ram/dirty-sync-count").unwrap_or(0),
            total_ms: number("/total-time").unwrap_or(0),
            downtime_ms: number("/downtime"),
        })
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
