//! Whatever breaks before the guest is the destination's leaves it running at the source.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use serde_json::json;
use vmstream_bridge::{Address, Outcome, Send};

use crate::bed::{self, Bed, Machine, Vm};
use crate::sides::{
    Fault, Receiver, ends_behind_the_last, hangs_up, network, plain, sent, told, usual,
};

fn pair(dir: &Path) -> (Vm, Vm) {
    let qemu = &Bed::get().new;
    let source = Vm::counting(qemu, Machine::Pc, dir);
    (source, Vm::waiting(qemu, Machine::Pc, dir, "destination"))
}

/// The guest counts on at the source, and can go elsewhere.
fn goes_another_time(mut source: Vm, dir: &Path) {
    source.wait_status("running");
    let tick = source.tick().expect("it has counted");
    assert_eq!(source.ticks_past(tick.0).1, tick.1, "the guest's memory is right");

    let mut other = Vm::waiting(&Bed::get().new, Machine::Pc, dir, "another");
    let receiver = Receiver::start(&other.monitor());
    let sent = sent(&plain(&source.monitor(), &receiver.address));
    assert!(matches!(sent.ended, Ok(Outcome::Moved(_))), "{:?}", sent.ended.map_err(|e| told(&e)));
    let (received, _) = receiver.end();
    assert!(matches!(received, Ok(Outcome::Moved(_))));
    other.wait_status("running");
    let tick = source.tick().expect("it has counted");
    assert_eq!(other.ticks_past(tick.0).1, tick.1, "the guest's memory is right");
}

fn breaks(fault: Fault, by_sender: &[&str], by_receiver: &[&str]) {
    let dir = bed::directory();
    let (source, destination) = pair(dir.path());
    let receiver = Receiver::start(&destination.monitor());
    let through = network(&receiver.address, 5_000_000, fault);
    let sent = sent(&plain(&source.monitor(), &through));
    let error = told(&sent.ended.expect_err("it cannot arrive"));
    let runs = "the guest runs on at the source (running): ";
    assert!(error.starts_with(runs), "{error}");
    assert!(by_sender.iter().any(|part| error.contains(part)), "{error}");
    let error = told(&receiver.end().0.expect_err("it cannot arrive"));
    assert!(by_receiver.iter().any(|part| error.contains(part)), "{error}");
    goes_another_time(source, dir.path());
}

#[test]
fn a_network_that_ends_leaves_the_guest_where_it_is() {
    breaks(Fault::Ends, &["F-14", "Connection reset"], &["F-14", "Connection reset"]);
}

#[test]
fn a_guest_that_arrives_when_nobody_can_say_so_runs_at_one_side_only() {
    let dir = bed::directory();
    let (source, mut destination) = pair(dir.path());
    let receiver = Receiver::start(&destination.monitor());
    let through = ends_behind_the_last(&receiver.address);
    let sent = sent(&plain(&source.monitor(), &through));
    let error = told(&sent.ended.expect_err("it does not learn of it"));
    assert!(error.starts_with("the guest runs on at the source (running): "), "{error}");
    let error = told(&receiver.end().0.expect_err("its source is gone"));
    assert!(
        error.starts_with("the guest is here (paused), and its source may not know"),
        "{error}"
    );
    destination.wait_status("paused");
    goes_another_time(source, dir.path());
}

#[test]
fn a_bit_that_changes_on_the_way_is_found() {
    breaks(Fault::ChangesABit, &["the other side gave up: "], &["F-3: ", "F-5: "]);
}

#[test]
fn a_destination_that_dies_leaves_the_guest_where_it_is() {
    let dir = bed::directory();
    let (source, mut destination) = pair(dir.path());
    let receiver = Receiver::start(&destination.monitor());
    let options =
        Send { max_bandwidth: Some(10_000_000), ..plain(&source.monitor(), &receiver.address) };
    let sending = thread::spawn(move || sent(&options));
    destination.wait_until("query-migrate", |answer| {
        answer.get("status").and_then(|status| status.as_str()) == Some("active")
    });
    drop(destination);
    let sent = sending.join().expect("it does not panic");
    let error = told(&sent.ended.expect_err("it cannot arrive"));
    assert!(
        error.starts_with("the guest runs on at the source (running): the other side gave up: "),
        "{error}"
    );
    assert!(error.contains("the destination's QEMU gave up: it ended the connection"), "{error}");
    receiver.end().0.expect_err("it cannot arrive");
    goes_another_time(source, dir.path());
}

#[test]
fn who_cancels_keeps_the_guest() {
    let dir = bed::directory();
    let (mut source, destination) = pair(dir.path());
    let receiver = Receiver::start(&destination.monitor());
    let options =
        Send { max_bandwidth: Some(10_000_000), ..plain(&source.monitor(), &receiver.address) };
    let sending = thread::spawn(move || sent(&options));
    source.wait_until("query-migrate", |answer| {
        answer.pointer("/ram/transferred").and_then(|bytes| bytes.as_u64()) > Some(1_000_000)
    });
    source.qmp.ask("migrate_cancel", json!({}));
    let sent = sending.join().expect("it does not panic");
    assert_eq!(
        told(&sent.ended.expect_err("it was cancelled")),
        "the guest runs on at the source (running): the source's QEMU gave up: its migration is cancelled"
    );
    let error = told(&receiver.end().0.expect_err("it was cancelled"));
    assert!(error.starts_with("its writer gave up: source-failed; "), "{error}");
    source.qmp.ask("migrate-set-parameters", json!({ "max-bandwidth": 4_000_000_000u64 }));
    goes_another_time(source, dir.path());
}

#[test]
fn who_only_asks_and_who_makes_no_sense_leave_the_receiver_waiting() {
    let dir = bed::directory();
    let (mut source, destination) = pair(dir.path());
    let receiver = Receiver::start(&destination.monitor());
    let Address::Tcp(address) = &receiver.address else { panic!("it is TCP") };
    for nonsense in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xd9, 0xd9, 0xf7, 0x89]] {
        let mut stranger = TcpStream::connect(address).expect("it listens");
        stranger.write_all(nonsense).expect("it takes a little");
    }
    let asks = Send { only_asks: true, ..plain(&source.monitor(), &receiver.address) };
    let sent = sent(&asks);
    assert!(matches!(sent.ended, Ok(Outcome::WouldMove)));
    let migration = source.qmp.ask("query-migrate", json!({}));
    assert_eq!(migration.get("status"), None, "nothing has begun");

    let sent = crate::sides::sent(&plain(&source.monitor(), &receiver.address));
    assert!(matches!(sent.ended, Ok(Outcome::Moved(_))), "{:?}", sent.ended.map_err(|e| told(&e)));
    assert!(matches!(receiver.end().0, Ok(Outcome::Moved(status)) if status == "running"));
}

/// Neither who says nothing, nor who asks and does not wait for the answer, nor who is refused what he only asked.
#[test]
fn strangers_keep_no_sender_out() {
    let dir = bed::directory();
    let (source, destination) = pair(dir.path());
    let unlike = Vm::paused(&Bed::get().new, Machine::Pc, dir.path(), &["-device", "edu"]);
    let socket = dir.path().join("bridge");
    let receiver = Receiver::at(&destination.monitor(), &socket);
    let silent: Vec<_> =
        (0..40).map(|_| UnixStream::connect(&socket).expect("it listens")).collect();
    let impatient = hangs_up(&socket);
    let asks = Send { only_asks: true, ..plain(&source.monitor(), &impatient) };
    sent(&asks).ended.expect_err("it hears no answer");
    let asks = Send { only_asks: true, ..plain(&unlike.monitor(), &receiver.address) };
    assert!(matches!(sent(&asks).ended, Ok(Outcome::Refused)));

    let sent = sent(&plain(&source.monitor(), &receiver.address));
    assert!(matches!(sent.ended, Ok(Outcome::Moved(_))), "{:?}", sent.ended.map_err(|e| told(&e)));
    assert!(matches!(receiver.end().0, Ok(Outcome::Moved(_))));
    drop(silent);
}

#[test]
fn what_fails_before_it_begins_leaves_no_trace_at_the_source() {
    let dir = bed::directory();
    let (mut source, destination) = pair(dir.path());
    // What an earlier migration came to is nothing to this one.
    source.save();
    source.qmp.ask("cont", json!({}));
    let receiver = Receiver::start(&destination.monitor());
    let impossible =
        Send { downtime_limit: Some(u64::MAX), ..plain(&source.monitor(), &receiver.address) };
    let error = told(&sent(&impossible).ended.expect_err("QEMU refuses that"));
    let runs = "the guest runs on at the source (running): QEMU refused migrate-set-parameters: ";
    assert!(error.starts_with(runs), "{error}");
    receiver.end().0.expect_err("nothing comes");
    let capabilities = source.qmp.ask("query-migrate-capabilities", json!({}));
    let mut on = capabilities.as_array().expect("a list").iter();
    assert!(!on.any(|each| each["state"] == true), "{capabilities}");
}

#[test]
fn what_cannot_go_through_here_is_said_before_anybody_is_asked() {
    let dir = bed::directory();
    let (mut source, destination) = pair(dir.path());
    let nobody = "127.0.0.1:1".parse().expect("an address");
    let refused = |vm: &Vm| told(&sent(&plain(&vm.monitor(), &nobody)).ended.expect_err("refused"));
    assert_eq!(refused(&source), "127.0.0.1:1: Connection refused (os error 111)");
    assert_eq!(
        refused(&destination),
        "this QEMU waits for a guest itself: it can only receive one"
    );
    source.qmp.capability("multifd", true);
    assert_eq!(
        refused(&source),
        "capability multifd cannot be bridged: turn it off (migrate_set_capability multifd off)"
    );
    let options = vmstream_bridge::Receive { listen: nobody.clone(), ..usual(&source.monitor()) };
    let error = vmstream_bridge::receive(&options, &mut |_| {}).expect_err("it has a guest");
    assert_eq!(
        told(&error),
        "this QEMU is running and waits for no guest: start it with -incoming defer"
    );
}
