//! Who looks on knows what he reads, whenever he comes.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use serde_json::json;
use vmstream::message::SwitchMode;
use vmstream::{Event, Reader};
use vmstream_bridge::{News, Outcome, Send, send};

use crate::bed::{self, Bed, Machine, Vm};
use crate::sides::{Receiver, plain, told};

/// What an onlooker saw.
#[derive(Debug, Default)]
struct Seen {
    regions: usize,
    attributes: usize,
    accepted: bool,
    joined: bool,
    pages: usize,
    pages_before_switch: usize,
    switch: Option<SwitchMode>,
    devices: Vec<String>,
    finished: bool,
}

/// Reads a stream to its end; every record is of a schema that was there, or reading it fails.
fn look(path: &Path) -> JoinHandle<Seen> {
    let onlooker = UnixStream::connect(path).expect("onlookers are let in");
    thread::spawn(move || {
        let (mut reader, mut seen) = (Reader::new(onlooker), Seen::default());
        while let Some(event) = reader.next_event().expect("it is valid") {
            match event {
                Event::Note(note) => seen.joined |= note.name == "joined",
                Event::Manifest(manifest) => {
                    (seen.regions, seen.attributes) =
                        (manifest.memory.len(), manifest.contract.len());
                }
                Event::Verdict(verdict) => seen.accepted = verdict.accepted,
                Event::Switch(switch) => {
                    (seen.switch, seen.pages_before_switch) = (Some(switch.mode), seen.pages);
                }
                Event::Pages(_) => seen.pages += 1,
                Event::Devices(records) => {
                    seen.devices.extend(records.into_iter().map(|record| record.path));
                }
                Event::Finish(_) => seen.finished = true,
                _ => {}
            }
        }
        seen
    })
}

#[test]
fn a_reader_that_joins_in_any_phase_knows_what_it_reads() {
    let (dir, qemu) = (bed::directory(), &Bed::get().new);
    let mut source = Vm::counting(qemu, Machine::Pc, dir.path());
    // An onlooker in a debug build is not fast.
    source.qmp.ask("migrate-set-parameters", json!({ "max-postcopy-bandwidth": 10_000_000 }));
    let mut destination = Vm::waiting(qemu, Machine::Pc, dir.path(), "destination");
    let socket = dir.path().join("watch");
    let receiver = Receiver::watched(&destination.monitor(), Some(&socket));
    let before = look(&socket);
    let options = Send {
        postcopy: Some(0),
        max_bandwidth: Some(10_000_000),
        ..plain(&source.monitor(), &receiver.address)
    };
    let (sender, late) = channel();
    let mut has_joined = [false; 2];
    let sent = send(&options, &mut |news| {
        let News::Progress(progress) = news else { return };
        let phase = usize::from(progress.is_postcopy());
        if progress.remaining > 0 && !std::mem::replace(&mut has_joined[phase], true) {
            sender.send(look(&socket)).expect("it is awaited");
        }
    });
    assert!(matches!(sent, Ok(Outcome::Moved(_))), "{:?}", sent.map_err(|error| told(&error)));
    receiver.end().0.expect("it has arrived");
    destination.wait_status("running");

    let seen: Vec<_> = [before].into_iter().chain(late.try_iter()).collect();
    let seen: Vec<_> = seen.into_iter().map(|seen| seen.join().expect("it is valid")).collect();
    eprintln!("{seen:#?}");
    let [from_begin, .., from_postcopy] = &*seen else { panic!("two at least have joined") };
    for seen in &seen {
        assert!(seen.joined && seen.accepted && seen.finished);
        assert!(seen.regions > 2 && seen.attributes > 100);
        assert_eq!(seen.switch, Some(SwitchMode::Postcopy));
        assert!(seen.devices.iter().any(|path| path.ends_with("/virtio-net")));
        assert_eq!(seen.devices, from_begin.devices);
    }
    assert!(from_begin.pages_before_switch > 0);
    assert_eq!(from_postcopy.pages_before_switch, 0);
    assert!(from_postcopy.pages > 0 && from_postcopy.pages < from_begin.pages);
}
