//! Two streams of paused machines, and what QEMU's own script makes of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;
use vmstream_qemu::{Field, Kind, Reader, Structure, Value};

use crate::stream::{Contents, Trickle};

const STREAMS: [&str; 2] = ["72_q35_S", "100_microvm_S"];

fn unpacked(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let out = Command::new("zstd").arg("-dc").arg(path).output().expect("zstd runs");
    assert!(out.status.success());
    out.stdout
}

/// A stream by its name.
pub(crate) fn stream(name: &str) -> Vec<u8> {
    unpacked(&format!("{name}.mig.zst"))
}

#[test]
fn every_byte_is_accounted_for_and_written_back_as_it_was() {
    for name in STREAMS {
        let bytes = stream(name);
        let contents = Contents::of(&Reader::new(), &mut bytes.as_slice()).expect("valid");

        assert_eq!(contents.end, bytes.len() as u64);
        assert!(contents.written == bytes, "{name} is written as it was read");
        assert_eq!((contents.share.opaque, contents.trailing), (0, 0), "{name}");
    }
}

#[test]
fn bytes_that_come_one_at_a_time_say_the_same() {
    let bytes = stream("100_microvm_S");
    let whole = Contents::of(&Reader::new(), &mut bytes.as_slice()).expect("valid");
    let trickled =
        Contents::read(&Reader::new().live(), &mut Trickle(&bytes), false).expect("valid");

    assert_eq!((trickled.end, trickled.devices), (whole.end, whole.devices));
}

#[test]
fn every_field_is_what_qemus_script_says() {
    for name in STREAMS {
        let bytes = stream(name);
        let contents = Contents::of(&Reader::new(), &mut bytes.as_slice()).expect("valid");
        let expected = unpacked(&format!("{name}.expected.json.zst"));
        let expected: Json = serde_json::from_slice(&expected).expect("JSON");
        let mut compared = 0;
        for (head, structure) in &contents.devices {
            let key = format!("{} ({})", head.name, head.section_id);
            compare(&key, structure, &expected[&key], &mut compared);
        }
        let sections =
            contents.devices.iter().map(|(head, _)| head.section_id).collect::<BTreeSet<_>>();

        assert_eq!(sections.len() + 1, expected.as_object().expect("an object").len(), "{name}");
        assert!(compared > 400, "{compared} values of {name} were compared");
    }
}

/// The script has subsections among the fields, numbers as hexadecimal text, and what it does not know as bytes.
fn compare(path: &str, structure: &Structure, expected: &Json, compared: &mut u32) {
    for field in &structure.fields {
        let at = format!("{path}/{}", field.name);
        compare_value(&at, field, &field.value, &expected[&*field.name], compared);
    }
    for sub in &structure.subsections {
        compare(&format!("{path}/{}", sub.name), sub, &expected[&*sub.name], compared);
    }
}

fn compare_value(path: &str, field: &Field, value: &Value, expected: &Json, compared: &mut u32) {
    match (value, expected) {
        (Value::List(list), Json::Array(items)) => {
            assert_eq!(list.items.len(), items.len(), "{path}");
            for (item, expected) in list.items.iter().zip(items) {
                compare_value(path, field, item, expected, compared);
            }
        }
        (Value::Bytes(bytes), Json::Array(items)) => {
            let items: Vec<_> = items.iter().map(number).collect();
            assert!(bytes.iter().map(|byte| i128::from(*byte)).eq(items), "{path}");
            *compared += 1;
        }
        (Value::Structure(inner), Json::Object(_)) => compare(path, inner, expected, compared),
        (Value::Bool(bit), Json::Bool(expected)) => {
            assert_eq!(bit, expected, "{path}");
            *compared += 1;
        }
        (Value::Unsigned(value), Json::String(text)) if text.starts_with("0x") => {
            assert_eq!(i128::from(*value), number(expected), "{path}");
            *compared += 1;
        }
        (Value::Signed(value), Json::String(text)) if !text.contains(' ') => {
            let width = field.kind.width().expect("a number") * 8;
            let wrapped = i128::from(*value) & ((1 << width) - 1);
            let expected = number(expected) & ((1 << width) - 1);
            assert_eq!(wrapped, expected, "{path}");
            *compared += 1;
        }
        // Bytes of what only we take further apart.
        (_, Json::String(_)) => assert!(
            matches!(field.kind, Kind::Bytes | Kind::Structure | Kind::U64 | Kind::I64 | Kind::I32),
            "{path}: {value:?}, {expected}"
        ),
        _ => panic!("{path}: {value:?}, the script says {expected}"),
    }
}

fn number(json: &Json) -> i128 {
    let text = json.as_str().expect("numbers are text");
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    sign * i128::from_str_radix(digits.trim_start_matches("0x"), 16).expect("hexadecimal")
}
