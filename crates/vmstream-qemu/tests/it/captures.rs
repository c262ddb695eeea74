//! Streams of guests that run, taken from real QEMUs, and given back to them.

use std::fs;
use std::path::Path;

use serde_json::json;
use vmstream_qemu::{Description, Reader};

use crate::bed::{Bed, Machine, Qemu, Tee, Vm};
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
fn opaque(contents: &Contents) -> Vec<String> {
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
    let mut out: Vec<_> =
        contents.opaque.iter().map(|(head, bytes)| format!("{}: {bytes}", head.name)).collect();
    for (head, structure) in &contents.devices {
        walk(&head.name, structure, &mut out);
    }
    out
}

/// Starts a QEMU with `bytes` as its stream; the guest goes on counting from `tick` with the same checksum.
fn loads(qemu: &Qemu, machine: Machine, dir: &Path, name: &str, bytes: &[u8], tick: (u64, String)) {
    let file = dir.join(format!("{name}.stream"));
    fs::write(&file, bytes).expect("a file");
    let mut vm = Vm::waiting(qemu, machine, dir, name);
    vm.qmp.ask("migrate-incoming", json!({ "uri": format!("exec:cat {}", file.display()) }));
    vm.wait_status("running");
    let (count, sum) = vm.ticks_past(tick.0);

    assert!(count < tick.0 + 1000, "{name}: the counter goes on from {}, not {count}", tick.0);
    assert_eq!(sum, tick.1, "{name}: the guest's memory is right");
    fs::remove_file(file).expect("it can be removed");
}

fn precopy_of(qemu: &Qemu, machine: Machine) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut source = Vm::boot(qemu, machine, dir.path());
    source.ticks_past(1);
    let stream = dir.path().join("stream");

    source.migrate(&format!("exec:cat >{}", stream.display()));
    let tick = source.tick().expect("it has counted");
    let bytes = fs::read(&stream).expect("the stream");

    let what = format!("{} {machine:?} precopy", if qemu.is_7_2 { "7.2" } else { "10.0" });
    let contents = check(&what, &bytes, &source.memory());
    drop(source);
    loads(qemu, machine, dir.path(), "written", &contents.written, tick);
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

/// A source, a destination, and between them what keeps the stream.
struct Pair {
    source: Vm,
    destination: Vm,
    tee: Tee,
    uri: String,
}

impl Pair {
    fn new(qemu: &Qemu, machine: Machine, dir: &Path) -> Self {
        let source = Vm::boot(qemu, machine, dir);
        source.ticks_past(1);
        let destination = Vm::waiting(qemu, machine, dir, "destination");
        let (here, there) = (dir.join("tee"), dir.join("incoming"));
        let tee = Tee::start(&here, there);
        Self { source, destination, tee, uri: format!("unix:{}", here.display()) }
    }

    fn capability(&mut self, name: &str) {
        self.source.qmp.capability(name, true);
        self.destination.qmp.capability(name, true);
    }

    fn listen(&mut self) {
        let uri = format!("unix:{}", self.destination.dir.join("incoming").display());
        self.destination.qmp.ask("migrate-incoming", json!({ "uri": uri }));
    }
}

fn return_path_of(qemu: &Qemu) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pair = Pair::new(qemu, Machine::Pc, dir.path());
    pair.capability("return-path");
    pair.listen();

    pair.source.migrate(&pair.uri);
    pair.destination.wait_status("running");
    let channels = pair.tee.channels();

    assert_eq!(channels.len(), 1);
    let contents = check("return path", &channels[0], &pair.source.memory());
    assert_eq!(contents.commands.first(), Some(&1), "the return path is opened");
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
    let dir = tempfile::tempdir().expect("a directory");
    let mut pair = Pair::new(qemu, Machine::Pc, dir.path());
    // What the same machine says about itself in precopy.
    let plain = dir.path().join("plain");
    pair.source.migrate(&format!("exec:cat >{}", plain.display()));
    pair.source.qmp.ask("cont", json!({}));
    let plain = fs::read(plain).expect("the stream");
    let plain = Contents::read(&Reader::new(), &mut plain.as_slice(), false).expect("valid");
    let description = plain.description.expect("precopy has a description");
    let description = Description::parse(&description, 0).expect("valid");
    pair.capability("postcopy-ram");
    pair.listen();
    let slow = json!({ "max-bandwidth": 20_000_000 });
    pair.source.qmp.ask("migrate-set-parameters", slow);

    pair.source.qmp.ask("migrate", json!({ "uri": pair.uri }));
    while pair.source.qmp.try_ask("migrate-start-postcopy", json!({})).is_err() {}
    pair.source.wait_migrated();
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
}

#[test]
fn postcopy_of_7_2() {
    postcopy_of(&Bed::get().old);
}

#[test]
fn postcopy_of_10_0() {
    postcopy_of(&Bed::get().new);
}
