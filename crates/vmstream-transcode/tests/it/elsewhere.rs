//! A guest's state by programs that are neither ours nor QEMU's: a decoder of CBOR and a validator of JSON Schema.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use vmstream::json::state_to_json;
use vmstream::{Event, Reader};

use crate::bed::{self, Bed, Machine, Qemu, Vm};
use crate::fixtures::ours;
use crate::python::python;

/// Every device with all its fields, those at their defaults and those of structs too, as the script prints them.
fn fields(stream: &[u8]) -> BTreeSet<String> {
    let mut reader = Reader::new(stream);
    let mut lines = BTreeSet::new();
    while let Some(event) = reader.next_event().expect("valid") {
        let Event::Devices(records) = event else { continue };
        for record in records {
            let schema = reader.schema(record.schema).expect("it came before");
            let state = state_to_json(&schema.complete(&record.state));
            leaves(&record.path, &state, &mut lines);
        }
    }
    lines
}

/// The names of all values below one that are no map, nor a list of maps.
fn leaves(path: &str, value: &Json, out: &mut BTreeSet<String>) {
    if let Some(object) = value.as_object() {
        object.iter().for_each(|(name, value)| leaves(&format!("{path} {name}"), value, out));
    } else if let Some(items) = value.as_array().filter(|items| items.iter().any(Json::is_object)) {
        let items = items.iter().enumerate();
        items.for_each(|(at, value)| leaves(&format!("{path} {at}"), value, out));
    } else {
        out.insert(format!("{path} {}", json_of_python(value)));
    }
}

/// As Python writes it: with a space behind each comma.
fn json_of_python(value: &Json) -> String {
    let Some(items) = value.as_array() else { return value.to_string() };
    let items: Vec<_> = items.iter().map(json_of_python).collect();
    format!("[{}]", items.join(", "))
}

fn read_of(qemu: &Qemu, machine: Machine) {
    let dir = bed::directory();
    let stream = ours(&Vm::counting(qemu, machine, dir.path()).save());

    let (content, said) = python(&stream);

    assert!(content, "{}", said.lines().last().unwrap_or_default());
    let known = fields(&stream);
    let printed: BTreeSet<String> = said.lines().map(str::to_owned).collect();
    let missing: Vec<_> = known.difference(&printed).take(5).collect();
    eprintln!("{} {machine:?}: {} fields", qemu.version, known.len());
    assert!(known.len() > 1000, "a guest has many: {}", known.len());
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_guest_of_7_2_is_read_in_fifty_lines_of_python() {
    read_of(&Bed::get().old, Machine::Pc);
}

#[test]
fn a_guest_of_10_0_is_read_in_fifty_lines_of_python() {
    read_of(&Bed::get().new, Machine::Q35);
}
