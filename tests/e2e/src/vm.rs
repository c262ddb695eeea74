//! One VM, driven by the program's commands.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::deadline::eventually;
use crate::outcome::{Outcome, Run};
use crate::processes::{Process, descendants, naming};
use crate::storage::Storage;

/// A VM that `create` made in a [`Storage`].
#[derive(Debug)]
pub struct Vm<'a> {
    storage: &'a Storage,
    /// What `create` printed.
    pub id: String,
}

impl<'a> Vm<'a> {
    /// The VM of this id, made by any means.
    #[must_use]
    pub fn new(storage: &'a Storage, id: String) -> Self {
        Self { storage, id }
    }

    /// Where it lives.
    #[must_use]
    pub fn storage(&self) -> &'a Storage {
        self.storage
    }

    /// `bandsox COMMAND VM ARGS`.
    #[must_use]
    pub fn run(&self, command: &str, args: &[&str]) -> Run {
        self.storage.bandsox(&[command, &self.id]).args(args)
    }

    /// `start`, which must succeed; what it said on standard error.
    pub fn start(&self) -> String {
        self.run("start", &[]).output().ok().complaint()
    }

    /// `stop`, which must succeed.
    pub fn stop(&self) {
        self.run("stop", &[]).ok();
    }

    /// `exec VM -- WORDS`.
    #[must_use]
    pub fn exec(&self, words: &[&str]) -> Run {
        self.run("exec", &["--"]).args(words)
    }

    /// A shell command that must succeed; its standard output.
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-c", script]).ok()
    }

    /// `upload VM LOCAL REMOTE ARGS`.
    #[must_use]
    pub fn upload(&self, local: &Path, remote: &str) -> Run {
        self.run("upload", &[]).arg(local).arg(remote)
    }

    /// `download VM REMOTE LOCAL ARGS`.
    #[must_use]
    pub fn download(&self, remote: &str, local: &Path) -> Run {
        self.run("download", &[]).arg(remote).arg(local)
    }

    /// Its metadata file.
    #[must_use]
    pub fn metadata(&self) -> Value {
        self.storage.json(&format!("metadata/{}.json", self.id))
    }

    /// The path of its metadata file.
    #[must_use]
    pub fn metadata_path(&self) -> PathBuf {
        self.storage.root().join(format!("metadata/{}.json", self.id))
    }

    /// `status` as `list -o json` has it.
    #[must_use]
    pub fn status(&self) -> String {
        let row =
            self.storage.listed(&self.id).unwrap_or_else(|| panic!("{} is not listed", self.id));
        row["status"].as_str().unwrap_or_default().to_owned()
    }

    /// The kind of `status_reason`, which `list -o json`, `inspect` and the metadata file must agree on; and the table
    /// must show it.
    ///
    /// # Panics
    ///
    /// When they do not.
    #[must_use]
    pub fn end(&self) -> String {
        let row =
            self.storage.listed(&self.id).unwrap_or_else(|| panic!("{} is not listed", self.id));
        let (status, reason) = (&row["status"], &row["status_reason"]);
        let inspected = self.inspect();
        for key in ["status", "status_reason", "status_text"] {
            assert_eq!(inspected[key], row[key], "{key}: inspect says otherwise than list");
        }
        assert_eq!(self.metadata()["status_reason"], *reason, "the file says otherwise than list");
        let table = self.storage.bandsox(&["list"]).ok();
        let kind = reason["kind"].as_str().unwrap_or_default();
        let shown = format!(" {} ({kind}) ", status.as_str().unwrap_or_default());
        let line = table.lines().find(|line| line.starts_with(&self.id)).unwrap_or_default();
        assert!(line.contains(&shown), "the table does not show {shown}: {line}");
        format!("{}: {kind}", status.as_str().unwrap_or_default())
    }

    /// Insists that it holds neither CID nor port.
    ///
    /// # Panics
    ///
    /// When it does.
    pub fn has_no_lease(&self) {
        let config = self.metadata()["vsock_config"].clone();
        assert!(config["cid"].is_null() && config["port"].is_null(), "{config}");
        for allocator in ["cid_allocator.json", "port_allocator.json"] {
            let leases = self.storage.json(allocator)["leases"].clone();
            assert!(leases[&self.id].is_null(), "{allocator} has {leases}");
        }
    }

    /// Waits until `list` gives this status.
    pub fn becomes(&self, status: &str) {
        eventually(&format!("{} is {status}", self.id), || (self.status() == status).then_some(()));
    }

    /// `inspect -o json`.
    #[must_use]
    pub fn inspect(&self) -> Value {
        self.storage.bandsox(&["-o", "json", "inspect", &self.id]).output().ok().json()
    }

    /// What `logs` prints.
    #[must_use]
    pub fn logs(&self) -> String {
        let outcome: Outcome = self.run("logs", &[]).output().ok();
        String::from_utf8_lossy(&outcome.stdout).into_owned()
    }

    /// The monitor's log file.
    #[must_use]
    pub fn monitor_log(&self) -> String {
        let path = self.storage.root().join(format!("logs/{}/monitor.log", self.id));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Its sockets' directory.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.storage.root().join("sockets").join(&self.id)
    }

    /// Its monitor.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn monitor(&self) -> Process {
        let mut found = naming(Path::new("__monitor"));
        found.retain(|process| process.args.iter().any(|arg| arg == self.id.as_str()));
        found.into_iter().next().unwrap_or_else(|| panic!("no monitor of {}", self.id))
    }

    /// Its engine.
    ///
    /// # Panics
    ///
    /// When its monitor has none.
    #[must_use]
    pub fn engine(&self) -> Process {
        let family = descendants(self.monitor().pid);
        let found = family.into_iter().find(|process| process.name().starts_with("qemu-system"));
        found.unwrap_or_else(|| panic!("no engine of {}", self.id))
    }
}
