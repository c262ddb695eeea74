//! Streams of guests that run: as ours, back, and loaded by the QEMU that they are from.

use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;

use serde_json::json;
use vmstream::json::{from_json, to_json};
use vmstream::{Event, Reader};
use vmstream_qemu::{Command, Event as Theirs};
use vmstream_transcode::{
    Error, Form, Options, Origin, from_vmstream, memory, open_file, to_vmstream,
};

use crate::bed::{self, Bed, Machine, Pair, Qemu, Vm, loads};
use crate::fixtures::ours;
use crate::measure::Sizes;

/// A guest that has run, its stream and its last tick.
fn captured(qemu: &Qemu, machine: Machine, dir: &Path) -> (Vec<u8>, (u64, String)) {
    let mut source = Vm::counting(qemu, machine, dir);
    let bytes = source.save();
    (bytes, source.tick().expect("it has counted"))
}

/// What holds for every stream of one channel.
fn comes_back(what: &str, bytes: &[u8]) -> Vec<u8> {
    let ours = ours(bytes);
    let sizes = Sizes::of(&ours);
    eprintln!("{what}: {} bytes, {sizes}", bytes.len());
    let back = from_vmstream(&*ours, Vec::new(), Form::Same).expect("it comes back");
    assert!(back == bytes, "{what}: {} bytes, not {}", back.len(), bytes.len());

    let over = sizes.total - sizes.data;
    assert!(over * 1000 <= sizes.memory, "{what}: {over} bytes over memory");
    assert!(sizes.wire("device") <= 10_000, "{what}: the devices' state");
    ours
}

fn precopy_of(qemu: &Qemu, machine: Machine) {
    let dir = bed::directory();
    let (bytes, tick) = captured(qemu, machine, dir.path());
    let ours = comes_back(&format!("{} {machine:?}", qemu.version), &bytes);

    let composed = from_vmstream(&*ours, Vec::new(), Form::Precopy).expect("it can be written");
    loads(qemu, machine, (dir.path(), "composed"), &composed, &tick);
}

#[test]
fn precopy_of_7_2_pc() {
    precopy_of(&Bed::get().old, Machine::Pc);
}

#[test]
fn precopy_of_7_2_q35() {
    precopy_of(&Bed::get().old, Machine::Q35);
}

#[test]
fn precopy_of_7_2_microvm() {
    precopy_of(&Bed::get().old, Machine::Microvm);
}

#[test]
fn precopy_of_7_2_without_footers() {
    precopy_of(&Bed::get().old, Machine::Old);
}

#[test]
fn precopy_of_10_0_pc() {
    precopy_of(&Bed::get().new, Machine::Pc);
}

#[test]
fn precopy_of_10_0_q35() {
    precopy_of(&Bed::get().new, Machine::Q35);
}

#[test]
fn precopy_of_10_0_microvm() {
    precopy_of(&Bed::get().new, Machine::Microvm);
}

fn return_path_of(qemu: &Qemu) {
    let dir = bed::directory();
    let mut pair = Pair::new(qemu, Machine::Pc, dir.path());
    pair.capability("return-path");
    pair.listen();
    pair.source.migrate(&pair.uri);
    pair.destination.wait_status("running");

    comes_back("return path", &pair.tee.channels()[0]);
}

#[test]
fn a_return_path_of_7_2() {
    return_path_of(&Bed::get().old);
}

#[test]
fn a_return_path_of_10_0() {
    return_path_of(&Bed::get().new);
}

fn postcopy_of(qemu: &Qemu) {
    let dir = bed::directory();
    let mut pair = Pair::new(qemu, Machine::Pc, dir.path());
    pair.migrate_by_postcopy();
    let bytes = pair.tee.channels().remove(0);
    let tick = pair.source.tick().expect("it has counted");
    drop(pair);

    let ours = ours(&bytes);
    eprintln!("postcopy: {} bytes, {}", bytes.len(), Sizes::of(&ours));
    let back = from_vmstream(&*ours, Vec::new(), Form::Same).expect("it comes back");
    assert!(back == bytes, "what was sent in two phases comes back in two");
    let composed = from_vmstream(&*ours, Vec::new(), Form::Precopy).expect("it can be written");
    loads(qemu, Machine::Pc, (dir.path(), "composed"), &composed, &tick);
}

#[test]
fn postcopy_of_7_2() {
    postcopy_of(&Bed::get().old);
}

#[test]
fn postcopy_of_10_0() {
    postcopy_of(&Bed::get().new);
}

#[test]
fn a_file_that_can_be_mapped() {
    let dir = bed::directory();
    let qemu = &Bed::get().new;
    let mut source = Vm::counting(qemu, Machine::Q35, dir.path());
    let file = dir.path().join("file");
    source.qmp.capability("mapped-ram", true);
    source.migrate(&format!("file:{}", file.display()));
    let tick = source.tick().expect("it has counted");
    drop(source);
    let bytes = fs::read(&file).expect("the file");

    let pipe = to_vmstream(&mut &*bytes, Vec::new(), &Options::default());
    assert!(matches!(pipe, Err(Error::Unsupported { what: "mapped-ram", .. })));
    let opened = fs::File::open(&file).expect("the file");
    let (origin, ours) = open_file(opened, &Options::default()).expect("valid");
    assert_eq!(origin, Origin::Qemu);
    let mut archive = vmstream::archive::Archive::open(&ours).expect("it has an index");
    assert!(archive.device("i8259@1").expect("valid").is_some());
    let options = Options { memory: memory(&mut &*bytes).expect("valid"), ..Options::default() };
    let (ours, _) = to_vmstream(&mut &*bytes, Vec::new(), &options).expect("valid");
    let same = from_vmstream(&*ours, Vec::new(), Form::Same);
    assert!(matches!(same, Err(Error::Moved { .. })));
    let composed = from_vmstream(&*ours, Vec::new(), Form::Precopy).expect("it can be written");
    loads(qemu, Machine::Q35, (dir.path(), "composed"), &composed, &tick);
}

#[test]
fn differences_of_pages_are_refused() {
    let dir = bed::directory();
    let mut source = Vm::busy(&Bed::get().new, Machine::Pc, dir.path());
    source.qmp.capability("xbzrle", true);
    let bytes = source.save_after_differences();

    let error = to_vmstream(&mut &*bytes, Vec::new(), &Options::default()).expect_err("refused");
    assert!(error.to_string().contains("xbzrle"), "{error}");
}

#[test]
fn what_is_known_of_disks_blocks_comes_back() {
    let dir = bed::directory();
    let mut source = Vm::paused(&Bed::get().new, Machine::Pc, dir.path(), &[]);
    let bitmap = json!({ "node": "disk", "name": "blocks" });
    source.qmp.ask("block-dirty-bitmap-add", bitmap);
    source.qmp.capability("dirty-bitmaps", true);

    comes_back("dirty bitmaps", &source.save());
}

#[test]
fn without_a_description_it_comes_back_too() {
    let dir = bed::directory();
    let mut source = Vm::paused(&Bed::get().new, Machine::Q35, dir.path(), &[]);
    let set = json!({ "path": "/machine", "property": "suppress-vmdesc", "value": true });
    source.qmp.ask("qom-set", set);

    comes_back("without a description", &source.save());
}

/// The lines of a stream's JSON with one of the serial port's registers changed.
fn edited(ours: &[u8]) -> Vec<u8> {
    let mut json = Vec::new();
    to_json(ours, &mut json).expect("valid");
    let mut lines = Vec::new();
    let mut changed = 0;
    for line in json.lines() {
        let line = line.expect("text");
        if !line.contains("\"kind\":\"device\"") {
            writeln!(lines, "{line}").expect("memory takes all");
            continue;
        }
        let mut line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        for record in line["payload"].as_array_mut().expect("records") {
            if record["path"] == "serial" {
                record["state"]["state"]["scr"] = json!(0xa5);
                changed += 1;
            }
        }
        writeln!(lines, "{line}").expect("memory takes all");
    }
    assert_eq!(changed, 1);
    let mut changed = Vec::new();
    from_json(&*lines, &mut changed).expect("valid");
    changed
}

/// The serial port's register as a stream of QEMU's has it.
fn scr_of(bytes: &[u8]) -> Option<i128> {
    let ours = ours(bytes);
    let mut reader = Reader::new(&*ours);
    while let Some(event) = reader.next_event().expect("valid") {
        if let Event::Devices(records) = event {
            let serial = records.into_iter().find(|record| record.path == "serial");
            let state = serial.map(|record| vmstream::Value::Map(record.state));
            return state?.at("state.scr")?.as_int();
        }
    }
    None
}

fn edited_of(qemu: &Qemu) {
    let dir = bed::directory();
    let (bytes, tick) = captured(qemu, Machine::Pc, dir.path());
    assert_ne!(scr_of(&bytes), Some(0xa5));
    let changed = edited(&ours(&bytes));
    let back = from_vmstream(&*changed, Vec::new(), Form::Same).expect("it comes back");
    assert_eq!(back.len(), bytes.len());
    let differing = back.iter().zip(&bytes).filter(|(left, right)| left != right).count();
    assert_eq!(differing, 1, "one byte has changed");

    let mut vm = loads(qemu, Machine::Pc, (dir.path(), "edited"), &back, &tick);
    assert_eq!(scr_of(&vm.save()), Some(0xa5), "it runs on with it");
}

#[test]
fn a_value_changed_in_json_is_what_7_2_loads() {
    edited_of(&Bed::get().old);
}

#[test]
fn a_value_changed_in_json_is_what_10_0_loads() {
    edited_of(&Bed::get().new);
}

/// Nothing of QEMU's stream is lost on the way: not even what its events say of order.
#[test]
fn commands_stay_where_they_were() {
    let dir = bed::directory();
    let mut pair = Pair::new(&Bed::get().new, Machine::Microvm, dir.path());
    pair.capability("return-path");
    pair.listen();
    pair.source.migrate(&pair.uri);
    pair.destination.wait_status("running");
    let bytes = pair.tee.channels().remove(0);
    let commands = |bytes: &[u8]| {
        let mut found = Vec::new();
        let mut sink = |range: std::ops::Range<u64>, event: &Theirs<'_>| {
            if let Theirs::Command(Command { number, .. }) = event {
                found.push((range.start, *number));
            }
            Ok(())
        };
        vmstream_qemu::Reader::new().read(&mut &*bytes, &mut sink).expect("valid");
        found
    };

    let back = comes_back("microvm with a return path", &bytes);
    let back = from_vmstream(&*back, Vec::new(), Form::Same).expect("it comes back");
    assert_eq!(commands(&back), commands(&bytes));
    assert!(!commands(&back).is_empty());
}
