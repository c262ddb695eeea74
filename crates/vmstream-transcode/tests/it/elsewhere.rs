//! A guest's state by programs that are neither ours nor QEMU's: a decoder of CBOR and a validator of JSON Schema.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use vmstream::{Event, Reader};

use crate::bed::{self, Bed, Machine, Qemu, Vm};
use crate::fixtures::ours;

/// What the script says of a stream, and whether it was content.
fn python(stream: &[u8]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vmstream/tests/format/read.py");
    let lines = std::fs::read_to_string(&script).expect("the script").lines().count();
    assert!(lines <= 50, "a reader is short");
    let mut child = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    child.stdin.take().expect("a pipe").write_all(stream).expect("the script reads it all");
    let out = child.wait_with_output().expect("the script ends");
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Every device with every field that its schema has.
fn fields(stream: &[u8]) -> BTreeSet<(String, String)> {
    let mut reader = Reader::new(stream);
    let mut fields = BTreeSet::new();
    while let Some(event) = reader.next_event().expect("valid") {
        let Event::Devices(records) = event else { continue };
        for record in records {
            let schema = reader.schema(record.schema).expect("it came before");
            let names = schema.root.fields().iter().map(|field| field.name.clone());
            fields.extend(names.map(|name| (record.path.clone(), name)));
        }
    }
    fields
}

fn read_of(qemu: &Qemu, machine: Machine) {
    let dir = bed::directory();
    let stream = ours(&Vm::counting(qemu, machine, dir.path()).save());

    let (content, said) = python(&stream);

    assert!(content, "{}", said.lines().last().unwrap_or_default());
    let known = fields(&stream);
    let printed: BTreeSet<(String, String)> = said
        .lines()
        .filter_map(|line| {
            let (path, rest) = line.split_once(' ')?;
            let found = known.iter().find(|(device, name)| {
                device == path
                    && rest.strip_prefix(&**name).is_some_and(|rest| rest.starts_with(' '))
            });
            found.cloned()
        })
        .collect();
    eprintln!("{} {machine:?}: {} fields of {}", qemu.version, printed.len(), known.len());
    assert!(known.len() > 200, "a guest has many");
    assert_eq!(printed, known);
}

#[test]
fn a_guest_of_7_2_is_read_in_fifty_lines_of_python() {
    read_of(&Bed::get().old, Machine::Pc);
}

#[test]
fn a_guest_of_10_0_is_read_in_fifty_lines_of_python() {
    read_of(&Bed::get().new, Machine::Q35);
}
