//! Pages that QEMU sends as what has changed in them (xbzrle).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use vmstream::message::RunKind;
use vmstream::{Event, Reader};
use vmstream_transcode::{Earlier, Error, Form, Options, from_vmstream, open_file, to_vmstream};

use crate::bed::{self, Bed, Machine, Qemu, Vm, loads};

/// A guest that was busy while it was sent: its stream in a file, its memory, and its last tick.
fn captured(qemu: &Qemu, dir: &Path) -> (PathBuf, Vec<u8>, (u64, String)) {
    let mut source = Vm::busy(qemu, Machine::Pc, dir);
    source.qmp.capability("xbzrle", true);
    let stream = dir.join("differences");
    fs::write(&stream, source.save_after_differences()).expect("a file");
    (stream, source.memory(), source.tick().expect("it has counted"))
}

/// Pages of a guest's memory that a stream of ours says something else of.
fn wrong(ours: &[u8], memory: &[u8]) -> Vec<u64> {
    let mut reader = Reader::new(ours);
    let mut found = vec![0; memory.len()];
    while let Some(event) = reader.next_event().expect("valid") {
        let Event::Pages(pages) = event else { continue };
        let regions = &reader.manifest().expect("it came before").memory;
        if regions[pages.region() as usize].name != "mem" {
            continue;
        }
        let data = pages.data().expect("valid");
        let mut data = data.chunks(4096);
        for run in pages.runs() {
            for page in run.first..run.first + run.count {
                let at = usize::try_from(page).expect("a page") * 4096;
                match run.kind {
                    RunKind::Data => {
                        found[at..at + 4096].copy_from_slice(data.next().expect("a page"));
                    }
                    RunKind::Zero | RunKind::SameAs(_) | RunKind::Absent => {
                        found[at..at + 4096].fill(0);
                    }
                }
            }
        }
    }
    let pages = found.chunks(4096).zip(memory.chunks(4096));
    (0..).zip(pages).filter(|(_, (one, other))| one != other).map(|(page, _)| page).collect()
}

/// The memory of a guest that QEMU has loaded, and that does not go on.
fn loaded(qemu: &Qemu, stream: &Path) -> Vec<u8> {
    let dir = bed::directory();
    let mut vm = Vm::paused(qemu, Machine::Pc, dir.path(), &["-incoming defer"]);
    vm.qmp.ask("migrate-incoming", json!({ "uri": format!("exec:cat {}", stream.display()) }));
    vm.wait_status("paused");
    vm.memory()
}

fn differences(bytes: &[u8]) -> usize {
    let mut count = 0;
    let mut sink = |_: std::ops::Range<u64>, event: &vmstream_qemu::Event<'_>| {
        let record =
            matches!(event, vmstream_qemu::Event::Ram(vmstream_qemu::RamRecord::Xbzrle { .. }));
        count += usize::from(record);
        Ok(())
    };
    vmstream_qemu::Reader::new().read(&mut &*bytes, &mut sink).expect("valid");
    count
}

fn differences_of(qemu: &Qemu, exact: bool) {
    let dir = bed::directory();
    let (stream, memory, tick) = captured(qemu, dir.path());
    let bytes = fs::read(&stream).expect("the stream");
    let count = differences(&bytes);
    eprintln!("{}: {count} differences in {} bytes", qemu.version, bytes.len());
    assert!(count > 0, "a stream without a difference shows nothing");

    // A pipe cannot be read again; with room it need not be.
    let pipe = to_vmstream(&mut &*bytes, Vec::new(), &Options::default()).expect_err("refused");
    assert!(matches!(pipe, Error::Difference), "{pipe}");
    assert!(pipe.to_string().starts_with("T-1: "), "{pipe}");
    let kept = Earlier::Kept(Arc::new(tempfile::tempfile().expect("a file")));
    let options = Options { earlier: kept, ..Options::default() };
    let (kept, _) = to_vmstream(&mut &*bytes, Vec::new(), &options).expect("valid");
    let again = Earlier::Again(Arc::new(File::open(&stream).expect("the stream")));
    let options = Options { earlier: again, ..Options::default() };
    let (again, _) = to_vmstream(&mut &*bytes, Vec::new(), &options).expect("valid");
    assert!(kept == again, "whichever way it is looked up, a page is the same");

    let stale = wrong(&kept, &memory);
    eprintln!("{}: pages that the guest had otherwise: {stale:?}", qemu.version);
    assert!(!exact || stale.is_empty(), "every page is what it was in the guest: {stale:?}");
    let other = wrong(&kept, &loaded(qemu, &stream));
    assert!(other.is_empty(), "every page is what QEMU itself makes of its stream: {other:?}");

    let mut reader = Reader::new(&*kept);
    let mut epochs = Vec::new();
    while let Some(event) = reader.next_event().expect("valid") {
        if matches!(event, Event::Pages(_)) {
            epochs.push(reader.frame().expect("a frame").header.epoch);
        }
    }
    assert!(epochs.last() > epochs.first(), "differences are data of a later epoch");
    let same = from_vmstream(&*kept, Vec::new(), Form::Same);
    assert!(matches!(same, Err(Error::Moved { .. })), "the same bytes are not to be had");
    let (_, file) =
        open_file(File::open(&stream).expect("it"), &Options::default()).expect("valid");
    let composed = from_vmstream(file, Vec::new(), Form::Precopy).expect("it can be written");
    if !exact {
        return;
    }
    loads(qemu, Machine::Pc, (dir.path(), "composed"), &composed, &tick);
}

#[test]
fn differences_of_pages_of_7_2() {
    // It sends differences that leave some pages of a busy guest stale, in every other stream: loaded by QEMU 7.2 itself, the same pages
    // are the same. Its streams without differences have none, and neither has 10.0.
    differences_of(&Bed::get().old, false);
}

#[test]
fn differences_of_pages_of_10_0() {
    differences_of(&Bed::get().new, true);
}

#[test]
fn the_rules_stand_in_the_documentation_as_they_are_reported() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/qemu-stream.md");
    let page = fs::read_to_string(page).expect("the page");
    let set = Error::Set { what: String::new() }.to_string();

    for told in [Error::Difference.to_string(), set] {
        let (id, text) = told.trim_end_matches("; ").split_once(": ").expect("a rule");
        assert!(page.contains(&format!("| {id} | {text}")), "{told}");
    }
}
