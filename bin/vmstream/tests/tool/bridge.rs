//! Guests that the program moves from one QEMU to another.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use serde_json::json;

use crate::bed::{Bed, Ran};
use crate::contracts::qemu;
use crate::real::{self, Machine, Vm};

fn bridge(bed: &Bed, side: &str, qmp: &Path, words: &[&str]) -> Command {
    let mut command = bed.command(&["bridge", side, "--qmp"]);
    command.arg(qmp).args(words).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A receiver that listens.
struct Receiver {
    child: Child,
    err: BufReader<ChildStderr>,
    address: String,
}

impl Receiver {
    fn start(bed: &Bed, qmp: &Path, words: &[&str]) -> Self {
        let mut child = bridge(bed, "receive", qmp, words).spawn().expect("the program runs");
        let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        err.read_line(&mut line).expect("it says where it listens");
        let address = line.strip_prefix("listening on ").and_then(|line| line.strip_suffix('\n'));
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, err, address }
    }

    fn end(mut self) -> Ran {
        let mut said = Vec::new();
        self.err.read_to_end(&mut said).expect("text");
        let output = self.child.wait_with_output().expect("it ends");
        Ran::of(std::process::Output { stderr: said, ..output })
    }
}

fn send(bed: &Bed, qmp: &Path, words: &[&str]) -> Ran {
    Ran::of(bridge(bed, "send", qmp, words).output().expect("the program runs"))
}

#[test]
fn a_guest_moves_as_the_guide_says() {
    let (bed, dir) = (Bed::new(), real::directory());
    let qemu = &real::Bed::get().new;
    let source = Vm::counting(qemu, Machine::Pc, dir.path());
    let mut first = Vm::waiting(qemu, Machine::Pc, dir.path(), "first");
    let mut second = Vm::waiting(qemu, Machine::Pc, dir.path(), "second");

    let words = ["--listen", "127.0.0.1:0", "--watch", "watch.sock"];
    let receiver = Receiver::start(&bed, &first.monitor(), &words);
    let looks = UnixStream::connect(bed.path("watch.sock")).map(|mut onlooker| {
        thread::spawn(move || {
            let mut seen = Vec::new();
            onlooker.read_to_end(&mut seen).map(|_| seen)
        })
    });
    let to = ["--to", &receiver.address];
    let asked = send(&bed, &source.monitor(), &[&to[..], &["--check"]].concat()).ok();
    assert_eq!((&*asked.out, &*asked.err), ("accepted\n", ""));
    let sent = send(&bed, &source.monitor(), &to).ok().out;
    let moved = sent.strip_prefix("accepted\nmoved: ").unwrap_or_else(|| panic!("{sent}"));
    assert!(moved.contains(", downtime ") && moved.ends_with(" ms\n"), "{sent}");
    let received = receiver.end().ok();
    assert_eq!(received.out, "accepted\naccepted\narrived: the guest is running\n");
    first.wait_status("running");
    let tick = source.tick().expect("it has counted");
    assert_eq!(first.ticks_past(tick.0).1, tick.1, "the guest's memory is right");
    let seen = looks.expect("onlookers are let in").join().expect("no panic").expect("it ends");
    let inspected = bed.run_with(&["inspect", "-"], &seen).ok().out;
    assert!(inspected.contains("virtio-net"), "{inspected}");
    bed.run_with(&["verify", "-"], &seen).ok();

    let words = ["--listen", "unix:bridge.sock", "-o", "json"];
    let receiver = Receiver::start(&bed, &second.monitor(), &words);
    assert_eq!(receiver.address, "unix:bridge.sock");
    let words = ["--to", "unix:bridge.sock", "-o", "json"];
    let sent = send(&bed, &first.monitor(), &words).ok().json();
    assert_eq!((&sent["result"], &sent["verdict"]["accepted"]), (&json!("moved"), &json!(true)));
    assert!(sent["sent_bytes"].as_u64() > Some(1_000_000) && sent["passes"].is_u64(), "{sent}");
    assert!(sent["total_ms"].is_u64() && sent["downtime_ms"].is_u64(), "{sent}");
    let received = receiver.end().ok().json();
    assert_eq!(received["status"], "running");
    assert_eq!((&received["result"], &received["verdict"]), (&sent["result"], &sent["verdict"]));
    second.wait_status("running");
    assert!(!bed.path("bridge.sock").exists() && !bed.path("watch.sock").exists());
}

#[test]
fn a_refusal_is_the_same_line_on_both_sides() {
    let bed = Bed::new();
    let _source = qemu(&bed, "source.sock", &["-smp", "1"]);
    let more = ["-smp", "2", "-incoming", "defer"];
    let _destination = qemu(&bed, "destination.sock", &more);
    let (source, destination) = (Path::new("source.sock"), Path::new("destination.sock"));
    let listen = ["--listen", "127.0.0.1:0"];
    let line = "value-differs machine#vcpus: source has 1, destination has 2 (-smp)\n";

    let receiver = Receiver::start(&bed, destination, &listen);
    let address = receiver.address.clone();
    let to = ["--to", &address];
    // Who only asks leaves the receiver waiting.
    let asked = send(&bed, source, &[&to[..], &["--check"]].concat()).fails(1).out;
    let sent = send(&bed, source, &to).fails(1).out;
    assert!(sent.starts_with(line) && sent.ends_with("\nrefused\n"), "{sent}");
    assert_eq!(asked, sent);
    assert_eq!(receiver.end().fails(1).out, [asked, sent].concat());

    let nobody = send(&bed, source, &to).fails(2);
    assert_eq!(nobody.err, format!("error: {address}: Connection refused (os error 111)\n"));
    let receiver = Receiver::start(&bed, destination, &[&listen[..], &["-o", "json"]].concat());
    let to = ["--to", &receiver.address, "-o", "json"];
    let sent = send(&bed, source, &to).fails(1).json();
    assert_eq!(sent["result"], "refused");
    assert_eq!(sent["verdict"]["refusals"][0]["path"], "machine#vcpus");
    assert_eq!(receiver.end().fails(1).json(), sent);

    for address in ["nowhere", "host:65536", "::1:4444", "unix:"] {
        let wrong = send(&bed, source, &["--to", address]).fails(64);
        assert!(wrong.err.contains("expected HOST:PORT, [ADDRESS]:PORT or unix:PATH"));
    }
    let wrong = send(&bed, destination, &["--to", "127.0.0.1:1"]).fails(2).err;
    assert_eq!(wrong, "error: this QEMU waits for a guest itself: it can only receive one\n");
}

/// Sends slowly, and returns when some of it has gone.
fn begins(bed: &Bed, source: &mut Vm, address: &str) -> Child {
    let words = ["--to", address, "--max-bandwidth", "10"];
    let sender = bridge(bed, "send", &source.monitor(), &words).spawn().expect("the program runs");
    source.wait_until("query-migrate", |answer| {
        let is_active = answer["status"] == "active";
        is_active && answer.pointer("/ram/transferred").and_then(|it| it.as_u64()) > Some(1_000_000)
    });
    sender
}

fn kill(signal: &str, child: &Child) {
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()));
}

fn counts_on(source: &mut Vm) {
    source.wait_status("running");
    let tick = source.tick().expect("it has counted");
    assert_eq!(source.ticks_past(tick.0).1, tick.1, "the guest's memory is right");
}

#[test]
fn whichever_side_is_killed_the_guest_runs_on() {
    let (bed, dir) = (Bed::new(), real::directory());
    let qemu = &real::Bed::get().new;
    let mut source = Vm::counting(qemu, Machine::Pc, dir.path());
    let destination = Vm::waiting(qemu, Machine::Pc, dir.path(), "first");
    let listen = ["--listen", "unix:bridge.sock"];
    let receiver = Receiver::start(&bed, &destination.monitor(), &listen);
    let mut sender = begins(&bed, &mut source, &receiver.address);
    sender.kill().expect("it runs");
    sender.wait().expect("it ends");
    let received = receiver.end().fails(2);
    assert!(
        received.err.starts_with("error: the stream cannot be read: frame "),
        "{}",
        received.err
    );
    assert!(received.err.contains("F-14"), "{}", received.err);
    counts_on(&mut source);

    let destination = Vm::waiting(qemu, Machine::Pc, dir.path(), "second");
    let mut receiver = Receiver::start(&bed, &destination.monitor(), &listen);
    let sender = begins(&bed, &mut source, &receiver.address);
    receiver.child.kill().expect("it runs");
    let sent = Ran::of(sender.wait_with_output().expect("it ends")).fails(2);
    let error = sent.err.lines().last().expect("a line");
    assert!(error.starts_with("error: the guest runs on at the source (running): "), "{error}");
    counts_on(&mut source);
    receiver.child.wait().expect("it ends");
}

#[test]
fn who_interrupts_the_sender_keeps_the_guest() {
    let (bed, dir) = (Bed::new(), real::directory());
    let qemu = &real::Bed::get().new;
    let mut source = Vm::counting(qemu, Machine::Pc, dir.path());
    let destination = Vm::waiting(qemu, Machine::Pc, dir.path(), "first");
    let receiver = Receiver::start(&bed, &destination.monitor(), &["--listen", "127.0.0.1:0"]);
    let sender = begins(&bed, &mut source, &receiver.address);

    kill("-INT", &sender);

    let sent = Ran::of(sender.wait_with_output().expect("it ends")).fails(130).err;
    let error = "error: the guest runs on at the source (running): it was interrupted";
    assert_eq!(sent.lines().last(), Some(error));
    receiver.end().fails(2);
    counts_on(&mut source);
    let capabilities = source.qmp.ask("query-migrate-capabilities", json!({}));
    let of = |name: &str| capabilities.as_array()?.iter().find(|each| each["capability"] == name);
    assert_eq!(of("return-path").map(|each| &each["state"]), Some(&json!(false)));
}

#[test]
fn what_has_not_begun_ends_at_once() {
    let bed = Bed::new();
    let _source = qemu(&bed, "source.sock", &[]);
    let deaf = std::os::unix::net::UnixListener::bind(bed.path("deaf.sock")).expect("bound");
    let sender = bridge(&bed, "send", Path::new("source.sock"), &["--to", "unix:deaf.sock"]);
    let sender = { sender }.spawn().expect("the program runs");
    let _silent = deaf.accept().expect("it calls");

    kill("-TERM", &sender);

    Ran::of(sender.wait_with_output().expect("it ends")).fails(143);
}
