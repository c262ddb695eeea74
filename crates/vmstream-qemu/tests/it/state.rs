//! A file read for its state alone: as it is read in full, but for what is in pages, or for all of memory.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use vmstream_qemu::{Event, RamRecord, ReadError, Reader, Sink};

use crate::bed::{self, Bed, Machine, Vm};
use crate::fixtures::stream;

/// An event without what is in pages that can be mapped.
fn told(event: &Event<'_>) -> String {
    match event {
        Event::Ram(RamRecord::MappedPages { block, offset, data }) => {
            format!("pages {block} {offset} {}", data.len())
        }
        Event::Ram(RamRecord::Passed { block, offset, bytes }) => {
            format!("pages {block} {offset} {bytes}")
        }
        other => format!("{other:?}"),
    }
}

type Told = (Vec<(Range<u64>, String)>, Result<(), String>);

fn events(read: impl FnOnce(&mut dyn Sink) -> Result<(), ReadError>) -> Told {
    let mut events = Vec::new();
    let done = read(&mut |range: Range<u64>, event: &Event<'_>| {
        events.push((range, told(event)));
        Ok(())
    });
    (events, done.map_err(|error| format!("{error:?}")))
}

fn expect_same(path: &Path, bytes: &[u8]) -> Told {
    fs::write(path, bytes).expect("a file");
    let file = File::open(path).expect("the file");
    let whole = events(|sink| Reader::new().read(&mut &*bytes, sink));
    let state = events(|sink| Reader::new().read_for_state(&file, sink));
    assert!(whole == state, "{} bytes: {:?} and {:?}", bytes.len(), whole.1, state.1);
    whole
}

#[test]
fn a_plain_file_is_read_for_its_state_as_in_full_however_it_is_cut() {
    let dir = bed::directory();
    let path = dir.path().join("file");
    let bytes = stream("100_microvm_S");
    expect_same(&path, &bytes).1.expect("it is whole");

    for cut in (0..bytes.len()).step_by(7331) {
        expect_same(&path, &bytes[..cut]).1.expect_err("it is cut");
    }
}

#[test]
fn a_file_that_can_be_mapped_is_read_for_its_state_as_in_full_however_it_is_cut() {
    let dir = bed::directory();
    let path = dir.path().join("file");
    let mut source = Vm::paused(&Bed::get().new, Machine::Pc, dir.path(), &[]);
    source.qmp.capability("mapped-ram", true);
    source.migrate(&format!("file:{}", path.display()));
    drop(source);
    let bytes = fs::read(&path).expect("the file");
    let (events, done) = expect_same(&path, &bytes);
    done.expect("it is whole");
    assert!(events.iter().any(|(_, told)| told.starts_with("pages ")), "some are there");

    let pages: Vec<_> = events.iter().filter(|(_, told)| told.starts_with("pages ")).collect();
    for (range, _) in pages.iter().step_by(pages.len().div_ceil(8)) {
        for cut in [range.start, range.start + 1, range.end - 1, range.end] {
            let cut = usize::try_from(cut).expect("an offset");
            expect_same(&path, &bytes[..cut]).1.expect_err("it is cut");
        }
    }
}

/// Events without those that only memory has, and without the number of their section's parts.
fn without_memory(told: &Told) -> Vec<&(Range<u64>, String)> {
    let is_device = |told: &str| {
        told.starts_with("Device") || told.starts_with("Opaque") || told.contains("kind: Full")
    };
    told.0.iter().filter(|(_, told)| is_device(told)).collect()
}

fn devices(path: &Path, bytes: &[u8]) -> Told {
    fs::write(path, bytes).expect("a file");
    let file = File::open(path).expect("the file");
    events(|sink| Reader::new().read_devices(&file, sink))
}

const FIXTURES: [&str; 2] = ["100_microvm_S", "72_q35_S"];

#[test]
fn devices_are_found_from_the_end_of_a_file_as_from_its_beginning() {
    let dir = bed::directory();
    let path = dir.path().join("file");
    for name in FIXTURES {
        let bytes = stream(name);
        let whole = events(|sink| Reader::new().read(&mut &*bytes, sink));
        let found = devices(&path, &bytes);

        assert_eq!(found.1, Ok(()), "{name}");
        assert_eq!(without_memory(&found), without_memory(&whole), "{name}");
        assert!(found.0.len() < whole.0.len(), "{name}: memory is left out");
        let early = (0..bytes.len()).step_by(bytes.len().div_ceil(8));
        let late = (1..8).map(|part| bytes.len() - 29_000 * part);
        for cut in early.chain(late).chain([bytes.len() - 1]) {
            let cut = &bytes[..cut];
            let whole = events(|sink| Reader::new().read(&mut &*cut, sink));
            assert_eq!(devices(&path, cut).1, whole.1, "{name}: {} bytes", cut.len());
        }
    }
}

#[test]
fn what_a_guest_holds_in_its_pages_is_not_taken_for_devices() {
    let dir = bed::directory();
    let path = dir.path().join("file");
    for name in FIXTURES {
        let mut bytes = stream(name);
        let whole = events(|sink| Reader::new().read(&mut &*bytes, sink));
        let first = whole.0.iter().find(|(_, told)| told.contains("kind: Full")).expect("a device");
        let first = usize::try_from(first.0.start).expect("an offset");
        let page = whole.0.iter().rfind(|(_, told)| told.starts_with("Ram(Data")).expect("a page");
        let end = usize::try_from(page.0.end).expect("an offset");
        // The seam before the first device is 13 bytes long: an end of memory and a footer.
        let copy = bytes[first - 13..first + 1000].to_vec();
        bytes[end - 1100..end - 1100 + copy.len()].copy_from_slice(&copy);
        let whole = events(|sink| Reader::new().read(&mut &*bytes, sink));

        assert_eq!(without_memory(&devices(&path, &bytes)), without_memory(&whole), "{name}");
    }
}
