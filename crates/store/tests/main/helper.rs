//! Other processes: this test program run again, to play a part.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, io, thread};

use bandsox_spec::VmId;
use bandsox_store::{Create, ProcessIdentity, Store};

use crate::scene::new_vm;

/// Another process that plays a part; ended at once when dropped.
pub(crate) struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Other {
    /// Starts a process that plays `part` with `words`.
    pub(crate) fn playing(part: &str, store: &Store, words: &[&str]) -> Self {
        let mut command = part_of(part, store.paths().root(), words);
        Self::of(command.stdin(Stdio::piped()).spawn().expect("a process"))
    }

    pub(crate) fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// The next thing it says.
    pub(crate) fn says(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.lines.read_line(&mut line).expect("readable");
            assert!(length > 0, "the other process ended without a word");
            // The test harness prints its own lines.
            if let Some((_, said)) = line.split_once(MARK) {
                return said.trim_end().to_owned();
            }
        }
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("ours");
        self.child.wait().expect("ours");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.child.kill().expect("ours");
        self.child.wait().expect("ours");
    }
}

/// The command that runs this test program again, in a part.
pub(crate) fn part_of(part: &str, store: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    casts(command.args(ARGUMENTS), part, store, words);
    command
}

/// The same, on a file system of its own at `store` that holds `bytes` and nobody else sees.
pub(crate) fn part_within(bytes: u32, part: &str, store: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=$0,mode=700 none \"$1\" && shift && exec \"$@\"";
    // Root needs no user namespace for it, and may not be allowed one.
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--mount", "sh", "-c", script, &bytes.to_string()])
        .arg(store)
        .arg(env::current_exe().expect("this program"));
    casts(command.args(ARGUMENTS), part, store, &[]);
    command
}

const ARGUMENTS: [&str; 3] = ["--exact", "helper::plays_its_part", "--nocapture"];

fn casts(command: &mut Command, part: &str, store: &Path, words: &[&str]) {
    command.env(PART, part).env(STORE, store).env(WORDS, words.join(" ")).stdout(Stdio::piped());
}

/// No test by itself: the entry of the other processes.
#[test]
fn plays_its_part() {
    let Ok(part) = env::var(PART) else { return };
    let root = env::var_os(STORE).expect("set together");
    let words = env::var(WORDS).expect("set together");
    let words: Vec<&str> = words.split_whitespace().collect();
    let store = Store::open(Path::new(&root), Create::Yes).expect("a store");
    match part.as_str() {
        "monitors" => monitors(&store, &words),
        "start" => start(&store, words[0]),
        "adopt" => adopt(&store, words[0]),
        "create" => create(&store),
        "churn" => churn(&store),
        "fills the disk" => crate::full_disk::fills_the_disk(&store),
        other => panic!("no such part: {other}"),
    }
}

/// The monitor of several VMs at once: leases for each, then waits for its end.
fn monitors(store: &Store, ids: &[&str]) {
    let us = ProcessIdentity::current().expect("/proc is mounted");
    let mut held = Vec::new();
    for id in ids {
        let id: VmId = id.parse().expect("a valid id");
        let lock = store.try_lock_vm(&id).expect("an answer").expect("a free lock");
        store.begin_run(&lock, &us).expect("room on the disk");
        let lease = store.lease(&lock).expect("a free CID and port");
        say(&format!("{id} {} {}", lease.cid, lease.port));
        held.push(lock);
    }
    wait_for_the_end();
}

/// What `bandsox start` does.
fn start(store: &Store, id: &str) {
    let vm: VmId = id.parse().expect("a valid id");
    match store.try_lock_vm(&vm).expect("an answer") {
        None => say("already running"),
        Some(lock) => {
            let mut command = part_of("adopt", store.paths().root(), &[id]);
            let mut monitor =
                lock.spawn_holding(command.stdout(Stdio::inherit())).expect("a process");
            say(&format!("started {}", monitor.id()));
            monitor.wait().expect("ours");
        }
    }
}

/// What `bandsox __monitor` does first.
fn adopt(store: &Store, id: &str) {
    let id: VmId = id.parse().expect("a valid id");
    let lock = store.adopt_lock_from_stdin(&id).expect("the lock is our standard input");
    let us = ProcessIdentity::current().expect("/proc is mounted");
    store.begin_run(&lock, &us).expect("room on the disk");
    let mut nothing = Vec::new();
    io::stdin().read_to_end(&mut nothing).expect("/dev/null");
    say("monitor runs");
    loop {
        thread::park();
    }
}

/// A creation that never gets to its end.
fn create(store: &Store) {
    let creation = store.begin_create(None).expect("a new id");
    std::fs::write(creation.overlay_path(), "half a disk").expect("a disk");
    say(creation.id().as_str());
    wait_for_the_end();
}

/// Everything that changes the store, over and over.
fn churn(store: &Store) {
    let us = ProcessIdentity::current().expect("/proc is mounted");
    say("begins");
    loop {
        let creation = store.begin_create(None).expect("a new id");
        std::fs::write(creation.overlay_path(), "disk").expect("a disk");
        let id = creation.commit(new_vm(None)).expect("a new VM").id().clone();
        let lock = store.try_lock_vm(&id).expect("an answer").expect("a free lock");
        store.begin_run(&lock, &us).expect("room on the disk");
        store.lease(&lock).expect("a free CID and port");
        store.rename(&id, &format!("n{id}").parse().expect("a valid name")).expect("a free name");
        store.end_run(&lock, &bandsox_spec::StopReason::Requested).expect("room on the disk");
        drop(lock);
        store.remove(&id).expect("it does not run");
    }
}

/// Until the test closes our standard input or kills us.
fn wait_for_the_end() {
    let mut nothing = Vec::new();
    io::stdin().read_to_end(&mut nothing).expect("readable");
}

pub(crate) fn say(words: &str) {
    // Whole lines at once: several processes may share one pipe.
    io::stdout().write_all(format!("{MARK}{words}\n").as_bytes()).expect("the test reads");
}

const PART: &str = "BANDSOX_STORE_TEST_PART";
const STORE: &str = "BANDSOX_STORE_TEST_STORE";
const WORDS: &str = "BANDSOX_STORE_TEST_WORDS";
const MARK: &str = "@@ ";
