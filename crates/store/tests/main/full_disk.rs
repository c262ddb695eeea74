//! A host without room.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};

use bandsox_spec::{Phase, StopReason};
use bandsox_store::{CreateError, Entry, Mode, ProcessIdentity, Store, UpdateError};

use crate::helper::{Other, part_within, say};
use crate::scene::new_vm;

#[test]
fn on_a_full_disk_nothing_is_lost_and_the_list_is_true() {
    let dir = tempfile::tempdir().expect("a directory");

    let mut command = part_within(1 << 20, "fills the disk", dir.path());
    let mut other = Other::of(command.spawn().expect("unshare(1) is there"));

    assert_eq!(other.says(), "all is well");
}

/// Plays in a process of its own, on a file system that holds one MiB.
pub(crate) fn fills_the_disk(store: &Store) {
    let id = store.create(new_vm(Some("web"))).expect("a new VM").id().clone();
    let lock = store.try_lock_vm(&id).expect("an answer").expect("a free lock");
    let us = ProcessIdentity::current().expect("/proc is mounted");
    store.begin_run(&lock, &us).expect("room on the disk");
    store.lease(&lock).expect("a free CID and port");
    let running = store.read(&id).expect("metadata");
    let filler = store.paths().root().join("filler");
    fill(&filler);

    let refusal = store.create(new_vm(None)).expect_err("there is no room");
    assert!(matches!(refusal, CreateError::File(_)), "{refusal:?}");
    assert_eq!(fs::read_dir(store.paths().metadata_dir()).expect("a directory").count(), 1);

    let refusal = store.end_run(&lock, &StopReason::PoweredOff).expect_err("there is no room");
    let UpdateError::File(error) = refusal else { panic!("{refusal:?}") };
    assert_eq!(error.source.kind(), ErrorKind::StorageFull);
    assert_eq!(store.read(&id).expect("metadata"), running, "the old file is whole");
    drop(lock);

    let ended = |entries: Vec<Entry>| match entries.as_slice() {
        [Entry::Vm(_, state)] => (state.phase, state.reason.clone()),
        _ => panic!("{entries:?}"),
    };
    let truth = (Phase::Stopped, Some(StopReason::PoweredOff));
    assert_eq!(ended(store.list().expect("a list")), truth);
    assert_eq!(store.read(&id).expect("metadata").phase(), Phase::Starting, "not yet written");
    let report = store.cleanup(Mode::Reclaim).expect("a report");
    assert!(
        report.failed.iter().any(|failed| failed.error.contains("No space left")),
        "{report:?}"
    );

    fs::remove_file(filler).expect("it is there");
    assert_eq!(ended(store.list().expect("a list")), truth);
    let written = store.read(&id).expect("metadata");
    assert_eq!((written.phase(), written.stop_reason()), truth);
    say("all is well");
}

fn fill(path: &std::path::Path) {
    let mut filler = File::create(path).expect("a file");
    loop {
        match filler.write(&[b'x'; 512]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}
