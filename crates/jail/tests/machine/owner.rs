//! No machine outlives whoever started it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use bandsox_engine::Engine;
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::{DEADLINE, Guest, jail, no_jail};

/// Not a test by itself: the process that owns a machine until it is killed.
#[test]
#[ignore = "started by the tests below"]
fn a_process_that_owns_a_machine() {
    let guest = match std::env::var("BANDSOX_TEST_JAIL").as_deref() {
        Ok("none") => Guest::boot("bare-idle", &no_jail()),
        _ => Guest::boot("bare-idle", &jail()),
    };
    println!("\nENGINE {}", guest.engine.info().pid);
    thread::sleep(DEADLINE);
}

struct Owner {
    process: Child,
    engine: Process,
}

impl Owner {
    fn start(jail: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["owner::a_process_that_owns_a_machine", "--exact", "--ignored", "--nocapture"])
            .env("BANDSOX_TEST_JAIL", jail)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run again");
        let output = process.stdout.take().expect("it is piped");
        let line = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("ENGINE "))
            .expect("the machine starts");
        let pid = line.trim_start_matches("ENGINE ").parse().expect("a process id");
        Self { process, engine: Process::of(pid) }
    }
}

/// A process, told from a later one of the same id by the time of its start.
struct Process {
    folder: PathBuf,
    started: i64,
}

impl Process {
    fn of(pid: u32) -> Self {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let started = fs::metadata(&folder).expect("it runs").ctime_nsec();
        Self { folder, started }
    }

    fn wait_for_end(&self) {
        let deadline = Instant::now() + DEADLINE;
        while fs::metadata(&self.folder).is_ok_and(|now| now.ctime_nsec() == self.started) {
            assert!(Instant::now() < deadline, "{} still runs", self.folder.display());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn parent(&self) -> Pid {
        let status = fs::read_to_string(self.folder.join("status")).expect("it runs");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let parent = parent.and_then(|pid| pid.trim().parse().ok());
        parent.and_then(Pid::from_raw).expect("it has a parent")
    }
}

#[test]
fn a_killed_owner_takes_its_machine_with_it() {
    for jail in ["full", "none"] {
        let mut owner = Owner::start(jail);

        owner.process.kill().expect("it is ours");

        owner.engine.wait_for_end();
        owner.process.wait().expect("it was killed");
    }
}

#[test]
fn a_killed_launcher_takes_its_machine_with_it() {
    for jail in ["full", "none"] {
        let mut owner = Owner::start(jail);

        kill_process(owner.engine.parent(), Signal::KILL).expect("root may");

        owner.engine.wait_for_end();
        owner.process.kill().expect("it is ours");
        owner.process.wait().expect("it was killed");
    }
}

#[test]
fn a_machine_whose_launcher_was_killed_is_reported_as_gone() {
    let guest = Guest::boot("bare-idle", &jail());
    let launcher = Process::of(guest.engine.info().pid).parent();

    kill_process(launcher, Signal::KILL).expect("root may");

    let (_, exit) = guest.until_gone();
    assert_eq!(exit.status, bandsox_engine::ExitStatus::Unknown);
}
