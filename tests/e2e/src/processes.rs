//! What runs on this machine, from `/proc`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process seen a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl Process {
    /// Every process that this one may see.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// The process of this id, unless it is gone or a zombie.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut after_name = stat.rsplit_once(") ")?.1.split(' ');
        let state = after_name.next()?;
        let parent = after_name.next()?.parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = words.split(|&byte| byte == 0).filter(|word| !word.is_empty());
        let args = words.map(|word| OsString::from_vec(word.to_vec())).collect();
        (state != "Z").then_some(Self { pid, parent, args })
    }

    /// The base name of its program.
    #[must_use]
    pub fn name(&self) -> String {
        let program = self.args.first().map(Path::new).and_then(Path::file_name);
        program.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// A line of `/proc/<pid>/status`, such as `VmHWM`, without its key.
    #[must_use]
    pub fn status(&self, key: &str) -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        status.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix(':')?;
            Some(value.trim().to_owned())
        })
    }

    /// SIGKILL, to this process alone.
    pub fn kill(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may be gone already, which is what is wanted.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// Every process with `text` in its arguments.
#[must_use]
pub fn naming(text: &Path) -> Vec<Process> {
    let wanted = text.as_os_str().as_bytes();
    let contains = |arg: &OsString| arg.as_bytes().windows(wanted.len()).any(|part| part == wanted);
    let me = std::process::id();
    Process::all()
        .into_iter()
        .filter(|process| process.pid != me && process.args.iter().any(contains))
        .collect()
}

/// The children of `pid`, theirs, and so on.
#[must_use]
pub fn descendants(pid: u32) -> Vec<Process> {
    let all = Process::all();
    let mut family: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            parents.push(child.pid);
            family.push(child.clone());
        }
    }
    family
}
