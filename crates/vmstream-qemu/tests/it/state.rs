//! A file read for its state alone: as it is read in full, but for what is in pages.

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
