//! A monitor that has given up what it does not need.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use bandsox_engine::{Engine, ExitStatus, ShutdownCause};
use bandsox_jail::{ConfineReport, MonitorNeeds, confine_monitor};

use crate::guest::{Guest, Plan, jail};

#[test]
fn a_confined_thread_reaches_its_storage_and_nothing_else() {
    let storage = tempfile::tempdir().expect("a temporary folder");
    fs::write(storage.path().join("old"), "old").expect("room");
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let address = listener.local_addr().expect("it is bound");
    assert!(TcpStream::connect(address).is_ok());

    let needs = MonitorNeeds { read_write: vec![storage.path().to_owned()], read: vec![] };
    let ConfineReport { applied, missing } = confine_monitor(&needs);

    assert_eq!(missing, Vec::<String>::new(), "{applied:?}");
    fs::write(storage.path().join("new"), "new").expect("its storage is its own");
    fs::rename(storage.path().join("new"), storage.path().join("old")).expect("so is renaming");
    std::os::unix::net::UnixListener::bind(storage.path().join("socket")).expect("and sockets");
    File::open("/etc/passwd").expect_err("no other file");
    fs::read_dir("/tmp").expect_err("no other folder");
    TcpStream::connect(address).expect_err("no network");
    Command::new("/bin/true").status().expect_err("no program");
    let inherited = thread::spawn(|| File::open("/etc/passwd").is_err());
    assert!(inherited.join().expect("it does not panic"), "a new thread is free");
    let status = fs::read_to_string("/proc/thread-self/status").expect("its own status");
    for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
}

#[test]
fn a_confined_owner_still_drives_its_machine() {
    let plan = Plan::new("bare-idle");
    let needs = MonitorNeeds::default();

    let mut guest = Guest::start_and(&plan, &jail(), || {
        let report = confine_monitor(&needs);
        assert_eq!(report.missing, Vec::<String>::new());
    })
    .expect("QEMU starts");
    guest.engine.boot().expect("it can be booted");
    guest.console.wait_for("READY", 0);
    guest.engine.pause().expect("it can be paused");
    guest.engine.kill();

    let (_, exit) = guest.until_gone();
    assert_eq!((exit.status, exit.cause), (ExitStatus::Signal(9), None::<ShutdownCause>));
}
