//! What keeps a guest where it is, and leaves it running.

use std::collections::BTreeMap;

use serde_json::json;
use vmstream_bridge::Outcome;

use crate::bed::{Bed, Qemu};
use crate::cases::{HARMLESS, WRONG};
use crate::machine::Running;
use crate::sides::{Receiver, plain, sent, told};

fn directory() -> tempfile::TempDir {
    // No file system in memory: these cannot be opened past the cache.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn status(machine: &mut Running, command: &str) -> Option<String> {
    let answer = machine.client.run(command, json!({})).expect("QEMU answers");
    answer.get("status")?.as_str().map(str::to_owned)
}

/// Each misconfiguration is its one line on both sides, and the source runs on without having begun to migrate.
fn every_one_is_refused(qemu: &Qemu) {
    let dir = directory();
    let (mut wrong, mut sources) = (Vec::new(), BTreeMap::new());
    for case in WRONG {
        // A source that was refused is there for the next destination.
        let source = sources.entry(format!("{:?}", case.source)).or_insert_with(|| {
            let mut source = Running::of(qemu, case.source, false, dir.path());
            source.client.run("cont", json!({})).expect("it runs");
            source
        });
        let mut destination = Running::of(qemu, case.destination, true, dir.path());
        let receiver = Receiver::start(&destination.monitor());
        let sent = sent(&plain(&source.monitor(), &receiver.address));
        let (received, verdict) = receiver.end();
        let line = |verdict: &Option<vmstream::contract::Comparison>| -> Vec<String> {
            let refusals = verdict.iter().flat_map(|verdict| &verdict.refusals);
            refusals.map(ToString::to_string).collect()
        };
        let said = (line(&sent.verdict), line(&verdict));
        let both = matches!((&sent.ended, &received), (Ok(Outcome::Refused), Ok(Outcome::Refused)));
        let states = [
            (status(source, "query-status"), Some("running")),
            (status(source, "query-migrate"), None),
            (status(&mut destination, "query-status"), Some("inmigrate")),
        ];
        let is_right = said.0 == [case.line] && said.1 == [case.line];
        if !is_right || !both || states.iter().any(|(is, want)| is.as_deref() != *want) {
            let ends = (sent.ended.map_err(|e| told(&e)), received.map_err(|e| told(&e)));
            wrong.push((case.name, said, ends, states));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_misconfiguration_is_refused_by_7_2() {
    every_one_is_refused(&Bed::get().old);
}

#[test]
fn each_misconfiguration_is_refused_by_10_0() {
    every_one_is_refused(&Bed::get().new);
}

/// What only the host knows of may differ: the machine goes over, from either version to either.
#[test]
fn what_is_harmless_keeps_no_guest() {
    let (dir, bed) = (directory(), Bed::get());
    let pairs =
        [(&bed.old, &bed.old), (&bed.new, &bed.new), (&bed.old, &bed.new), (&bed.new, &bed.old)];
    for ((name, edit), (from, to)) in HARMLESS.iter().zip(pairs.iter().cycle()) {
        // The same processor in both versions.
        let common = [("cpu", "-cpu qemu64")];
        let mut source = Running::of(from, &common, false, dir.path());
        source.client.run("cont", json!({})).expect("it runs");
        let edit = [&common, *edit].concat();
        let mut destination = Running::of(to, &edit, true, dir.path());
        destination.client.run("cont", json!({})).expect("it runs when it has arrived");
        let receiver = Receiver::start(&destination.monitor());
        let sent = sent(&plain(&source.monitor(), &receiver.address));
        let (received, _) = receiver.end();
        let ends = (sent.ended.map_err(|e| told(&e)), received.map_err(|e| told(&e)));
        assert!(
            matches!(&ends, (Ok(Outcome::Moved(_)), Ok(Outcome::Moved(status))) if status == "running"),
            "{name}, from {} to {}: {ends:?}",
            from.version,
            to.version,
        );
    }
}
