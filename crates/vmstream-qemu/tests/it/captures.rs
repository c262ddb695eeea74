//! Streams of guests that run, taken from real QEMUs, and given back to them.

use std::fs;
use std::io;
use std::ops::Range;

use serde_json::json;
use vmstream_qemu::{
    Answer, Description, Event, Reader, Sink, Value, Writer, read_answers, write_answer,
};

use crate::bed::{self, Bed, Machine, Pair, Qemu, Vm, loads};
use crate::stream::Contents;

/// The block that is the memory backend.
fn main_memory(contents: &Contents) -> &[u8] {
    let largest = contents.blocks.iter().max_by_key(|(_, bytes)| bytes.len());
    &largest.expect("a block").1
}

/// What holds for every stream with a description: all of it is understood, and it is memory that was sent.
fn check(what: &str, bytes: &[u8], memory: &[u8]) -> Contents {
    let contents = Contents::of(&Reader::new(), &mut &*bytes).expect("the stream is valid");
    let share = contents.share;
    eprintln!(
        "{what}: {} bytes, {} sections, state {} = named {} + buffers {} + opaque {}, {:?}",
        bytes.len(),
        contents.devices.len(),
        share.total(),
        share.named,
        share.buffers,
        share.opaque,
        contents.records
    );

    assert_eq!(contents.end, bytes.len() as u64, "{what}");
    assert!(contents.written == bytes, "{what} is written as it was read");
    assert_eq!((share.opaque, contents.trailing), (0, 0), "{what}: {:?}", opaque(&contents));
    assert!(main_memory(&contents) == memory, "{what} has the guest's memory");
    contents
}

/// What stayed opaque, by section and field.
pub(crate) fn opaque(contents: &Contents) -> Vec<String> {
    use vmstream_qemu::{Structure, Value};
    fn walk(path: &str, structure: &Structure, out: &mut Vec<String>) {
        for field in &structure.fields {
            let path = format!("{path}/{}", field.name);
            match &field.value {
                Value::Opaque(bytes) => {
                    let head = &bytes[..bytes.len().min(64)];
                    out.push(format!("{path}: {} of {} {head:02x?}", field.type_name, bytes.len()));
                }
                Value::Structure(inner) => walk(&path, inner, out),
                _ => {}
            }
        }
        for sub in &structure.subsections {
            walk(&format!("{path}/{}", sub.name), sub, out);
        }
    }
    let mut out: Vec<_> = contents
        .opaque
        .iter()
        .map(|(head, bytes)| format!("{}: {}", head.name, bytes.len()))
        .collect();
    for (head, structure) in &contents.devices {
        walk(&head.name, structure, &mut out);
    }
    out
}

fn precopy_of(qemu: &Qemu, machine: Machine) {
    let dir = bed::directory();
    let mut source = Vm::counting(qemu, machine, dir.path());

    let bytes = source.save();
    let tick = source.tick().expect("it has counted");

    let what = format!("{} {machine:?} precopy", qemu.version);
    let contents = check(&what, &bytes, &source.memory());
    drop(source);
    loads(qemu, machine, (dir.path(), "written"), &contents.written, &tick);
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

/// What was said on a return path; it is written as it was read.
fn answers(bytes: &[u8]) -> Vec<Answer> {
    let (mut answers, mut written) = (Vec::new(), Vec::new());
    read_answers(&mut &*bytes, &mut |answer| {
        write_answer(&mut written, &answer).map_err(io::Error::other)?;
        answers.push(answer);
        Ok(())
    })
    .expect("valid");
    assert_eq!(written, bytes);
    answers
}

fn return_path_of(qemu: &Qemu) {
    let dir = bed::directory();
    let mut pair = Pair::new(qemu, Machine::Pc, dir.path());
    pair.capability("return-path");
    pair.listen();

    pair.source.migrate(&pair.uri);
    pair.destination.wait_status("running");
    let channels = pair.tee.channels();

    assert_eq!(channels.len(), 1);
    let contents = check("return path", &channels[0], &pair.source.memory());
    assert_eq!(contents.commands.first(), Some(&1), "the return path is opened");
    let answers = answers(&pair.tee.back());
    assert_eq!(answers, [Answer::Pong(1), Answer::Shut(0)], "what the destination said");
    let live = Contents::read(&Reader::new().live(), &mut channels[0].as_slice(), false);
    assert_eq!(live.expect("valid").end, channels[0].len() as u64);
}

#[test]
fn precopy_with_a_return_path_of_7_2() {
    return_path_of(&Bed::get().old);
}

#[test]
fn precopy_with_a_return_path_of_10_0() {
    return_path_of(&Bed::get().new);
}

fn postcopy_of(qemu: &Qemu) {
    let dir = bed::directory();
    let mut pair = Pair::new(qemu, Machine::Pc, dir.path());
    // What the same machine says about itself in precopy.
    let plain = pair.source.save();
    pair.source.qmp.ask("cont", json!({}));
    let plain = Contents::read(&Reader::new(), &mut plain.as_slice(), false).expect("valid");
    let description = plain.description.expect("precopy has a description");
    let description = Description::parse(&description, 0).expect("valid");

    pair.migrate_by_postcopy();
    let channels = pair.tee.channels();
    let bytes = &channels[0];
    let alone = Contents::of(&Reader::new(), &mut bytes.as_slice()).expect("valid");
    let reader = Reader::new().with_description(description);
    let helped = Contents::of(&reader, &mut bytes.as_slice()).expect("valid");
    eprintln!(
        "postcopy: {} bytes, alone {:?}, helped {:?}, commands {:?}",
        bytes.len(),
        alone.share,
        helped.share,
        alone.commands
    );

    assert!(alone.written == *bytes && helped.written == *bytes);
    assert_eq!(alone.end, bytes.len() as u64);
    assert!(alone.commands.contains(&7), "the state comes in a package");
    assert!(alone.devices.len() >= 5, "virtio devices explain themselves");
    assert_eq!(helped.share.opaque, 0, "{:?}", opaque(&helped));
    assert!(helped.devices.len() > 20);
    assert!(main_memory(&alone) == pair.source.memory(), "the guest's memory came through");

    let answers = answers(&pair.tee.back());
    assert_eq!(answers.last(), Some(&Answer::Shut(0)));
    let asked = answers.iter().filter(|one| matches!(one, Answer::RequestPages { .. })).count();
    eprintln!("postcopy: {} answers, {asked} of them ask for pages", answers.len());
    assert!(asked > 0, "the destination asks for what it needs");

    // What came in two phases loads as if it had come in one, taken apart or not.
    let tick = pair.source.tick().expect("it has counted");
    drop(pair);
    let composed = alone.composed(&alone.blocks);
    loads(qemu, Machine::Pc, (dir.path(), "alone"), &composed, &tick);
    let composed = helped.composed(&helped.blocks);
    loads(qemu, Machine::Pc, (dir.path(), "helped"), &composed, &tick);
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
fn a_file_of_10_0() {
    let dir = bed::directory();
    let qemu = &Bed::get().new;
    let mut source = Vm::counting(qemu, Machine::Microvm, dir.path());
    let file = dir.path().join("file");
    source.migrate(&format!("file:{}", file.display()));

    check("file", &fs::read(file).expect("the file"), &source.memory());
}

#[test]
fn a_file_that_can_be_mapped_of_10_0() {
    let dir = bed::directory();
    let qemu = &Bed::get().new;
    let mut source = Vm::counting(qemu, Machine::Q35, dir.path());
    let file = dir.path().join("file");
    source.qmp.capability("mapped-ram", true);
    source.migrate(&format!("file:{}", file.display()));
    let tick = source.tick().expect("it has counted");
    let bytes = fs::read(&file).expect("the file");
    let contents = Contents::of(&Reader::new(), &mut bytes.as_slice()).expect("valid");
    eprintln!("mapped-ram: {} bytes, {:?}", bytes.len(), contents.share);

    assert_eq!((contents.end, contents.share.opaque), (bytes.len() as u64, 0));
    assert!(main_memory(&contents) == source.memory());

    fs::write(&file, &contents.written).expect("a file");
    drop(source);
    let mut vm = Vm::waiting(qemu, Machine::Q35, dir.path(), "written");
    vm.qmp.capability("mapped-ram", true);
    vm.qmp.ask("migrate-incoming", json!({ "uri": format!("file:{}", file.display()) }));
    vm.wait_status("running");
    assert_eq!(vm.ticks_past(tick.0).1, tick.1, "the guest's memory is right");
    drop(vm);
    let composed = contents.composed(&contents.blocks);
    loads(qemu, Machine::Q35, (dir.path(), "composed"), &composed, &tick);
}

#[test]
fn differences_of_pages_are_kept_as_they_are() {
    let dir = bed::directory();
    let mut source = Vm::busy(&Bed::get().new, Machine::Pc, dir.path());
    source.qmp.capability("xbzrle", true);
    let bytes = source.save_after_differences();
    let contents = check("xbzrle", &bytes, &source.memory());

    assert!(contents.records.get("xbzrle").is_some_and(|count| *count > 0));
}

/// The same guest twice, with a description and without.
fn twice(qemu: &Qemu, machine: Machine) -> (Vec<u8>, Vec<u8>) {
    let dir = bed::directory();
    let mut source = Vm::counting(qemu, machine, dir.path());
    let streams = [false, true].map(|quiet| {
        let set = json!({ "path": "/machine", "property": "suppress-vmdesc", "value": quiet });
        source.qmp.ask("qom-set", set);
        let stream = source.save();
        source.qmp.ask("cont", json!({}));
        stream
    });
    let [told, quiet] = streams;
    (told, quiet)
}

fn description_of(bytes: &[u8]) -> Description {
    let contents = Contents::read(&Reader::new(), &mut &*bytes, false).expect("valid");
    let json = contents.description.expect("it has a description");
    Description::parse(&json, 0).expect("valid")
}

#[test]
fn without_a_description_sections_are_found_by_their_footers() {
    let (told, quiet) = twice(&Bed::get().new, Machine::Q35);
    let alone = Contents::of(&Reader::new(), &mut quiet.as_slice()).expect("valid");
    let reader = Reader::new().with_description(description_of(&told));
    let helped = Contents::of(&reader, &mut quiet.as_slice()).expect("valid");
    let told = Contents::of(&Reader::new(), &mut told.as_slice()).expect("valid");
    eprintln!("without a description: alone {:?}, helped {:?}", alone.share, helped.share);

    assert!(alone.written == quiet && helped.written == quiet);
    assert_eq!(alone.devices.len() + alone.opaque.len(), told.devices.len());
    assert!(alone.share.opaque * 5 < alone.share.total(), "virtio devices explain themselves");
    assert_eq!((helped.share.opaque, helped.devices.len()), (0, told.devices.len()));
}

#[test]
fn a_machine_without_footers_is_read_by_its_description_alone() {
    let (told, quiet) = twice(&Bed::get().old, Machine::Old);
    let alone = Contents::of(&Reader::new(), &mut quiet.as_slice()).expect("valid");
    let reader = Reader::new().with_description(description_of(&told));
    let helped = Contents::of(&reader, &mut quiet.as_slice()).expect("valid");
    let told_contents = Contents::of(&Reader::new(), &mut told.as_slice()).expect("valid");
    eprintln!("no footers: {:?}, {:?}, {:?}", alone.share, helped.share, told_contents.share);

    assert!(alone.written == quiet && helped.written == quiet && told_contents.written == told);
    assert_eq!(told_contents.share.opaque, 0, "{:?}", opaque(&told_contents));
    assert_eq!(helped.share, told_contents.share);
    assert_eq!(alone.opaque.len(), 1, "all in one");
}

/// Changes one field of one section, and writes the rest as it was.
struct Edit {
    written: Writer<Vec<u8>>,
    section: &'static str,
    path: &'static str,
    value: Value,
    here: bool,
}

impl Sink for Edit {
    fn event(&mut self, _: Range<u64>, event: &Event<'_>) -> io::Result<()> {
        if let Event::Section(head) = event {
            self.here = *head.name == *self.section;
        }
        let written = match event {
            Event::Device(structure) if self.here => {
                let mut changed = (*structure).clone();
                *changed.find_mut(self.path).expect("the field is there") = self.value.clone();
                self.written.event(&Event::Device(&changed))
            }
            event => self.written.event(event),
        };
        written.map_err(io::Error::other)
    }
}

fn edited_of(qemu: &Qemu) {
    let dir = bed::directory();
    let mut source = Vm::counting(qemu, Machine::Pc, dir.path());
    let bytes = source.save();
    let tick = source.tick().expect("it has counted");
    drop(source);
    let mut edit = Edit {
        written: Writer::new(Vec::new()),
        section: "serial",
        path: "state/scr",
        value: Value::Unsigned(0xa5),
        here: false,
    };
    Reader::new().read(&mut bytes.as_slice(), &mut edit).expect("valid");
    let edited = edit.written.into_inner();

    let mut vm = loads(qemu, Machine::Pc, (dir.path(), "edited"), &edited, &tick);
    let again = vm.save();
    let again = Contents::read(&Reader::new(), &mut again.as_slice(), false).expect("valid");
    let serial = again.devices.iter().find(|(head, _)| &*head.name == "serial");
    let (_, scr) = serial.expect("the section").1.find("state/scr").expect("the field");

    assert_eq!(scr.as_unsigned(), Some(0xa5), "with the changed value");
}

#[test]
fn a_changed_value_is_loaded_and_kept_by_7_2() {
    edited_of(&Bed::get().old);
}

#[test]
fn a_changed_value_is_loaded_and_kept_by_10_0() {
    edited_of(&Bed::get().new);
}

#[test]
fn what_is_known_of_disks_blocks_comes_whole_and_in_place() {
    let dir = bed::directory();
    let mut source = Vm::paused(&Bed::get().new, Machine::Pc, dir.path(), &[]);
    let bitmap = json!({ "node": "disk", "name": "blocks" });
    source.qmp.ask("block-dirty-bitmap-add", bitmap);
    source.qmp.capability("dirty-bitmaps", true);
    let bytes = source.save();
    let contents = Contents::of(&Reader::new(), &mut bytes.as_slice()).expect("valid");

    assert!(contents.written == bytes);
    assert!(contents.opaque.iter().all(|(head, _)| &*head.name == "dirty-bitmap"));
    assert!(contents.opaque.iter().any(|(_, body)| body.len() > 10), "{:?}", opaque(&contents));
}
