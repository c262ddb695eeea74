//! Streams of ours whose notes are missing, moved or wrong.

use std::io::BufRead;

use serde_json::{Value as Json, json};
use vmstream::json::{from_json, to_json};
use vmstream::message::{Hello, Manifest, Note, Purpose};
use vmstream::{Finding, Value, Writer};
use vmstream_transcode::{Error, Form, from_vmstream};

use crate::fixtures::{ours, stream};

/// A stream whose lines of JSON have been changed; none is left out.
fn changed(mut change: impl FnMut(&mut Json) -> bool) -> Vec<u8> {
    let mut json = Vec::new();
    to_json(&*ours(&stream("100_microvm_S")), &mut json).expect("valid");
    let mut lines = Vec::new();
    for line in json.lines() {
        let mut line: Json = serde_json::from_str(&line.expect("text")).expect("JSON");
        if change(&mut line) {
            line.as_object_mut().expect("an object").remove("packed");
            lines.extend(line.to_string().into_bytes());
            lines.push(b'\n');
        }
    }
    let mut out = Vec::new();
    from_json(&*lines, &mut out).expect("valid");
    out
}

fn refused(stream: &[u8]) -> String {
    let error = from_vmstream(stream, Vec::new(), Form::Same).expect_err("refused");
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}; {source}")
}

#[test]
fn without_notes_nothing_can_be_written() {
    let stream = changed(|line| line["kind"] != "note");
    let error = from_vmstream(&*stream, Vec::new(), Form::Precopy).expect_err("refused");
    assert!(matches!(error, Error::Notes { .. } | Error::Moved { .. }), "{error}");
    assert!(!refused(&stream).is_empty());
}

#[test]
fn a_note_that_is_none_of_ours_is_refused() {
    let stream = changed(|line| {
        if line["kind"] == "note" {
            line["payload"]["value"] = json!([[99]]);
        }
        true
    });
    assert!(refused(&stream).contains("a note is broken"), "{}", refused(&stream));
}

#[test]
fn a_note_cannot_ask_for_more_than_a_stream_can_hold() {
    for shape in [json!(1_u64 << 60), json!([2, 0, 4_000_000_000_u64, 4_000_000_000_u64])] {
        let stream = changed(|line| {
            if line["kind"] == "note" {
                let layout = json!(["x", 1, ["bytes", 12, shape], []]);
                line["payload"]["value"] = json!([[14, layout]]);
            }
            true
        });
        assert!(refused(&stream).contains("a note is broken"), "{}", refused(&stream));
    }
}

/// Calls `edit` with each device record.
fn edited(mut edit: impl FnMut(&mut Vec<Json>)) -> Vec<u8> {
    changed(|line| {
        if line["kind"] == "device" {
            edit(line["payload"].as_array_mut().expect("records"));
        }
        true
    })
}

#[test]
fn a_record_that_is_missing_is_named() {
    let stream = edited(|records| records.retain(|record| record["path"] != "serial"));
    assert!(refused(&stream).contains("the record of serial is missing"), "{}", refused(&stream));
}

#[test]
fn a_record_that_is_new_is_named() {
    let stream = edited(|records| {
        let serial = records.iter().find(|record| record["path"] == "serial");
        let mut other = serial.expect("there is one").clone();
        other["path"] = json!("serial@7");
        records.push(other);
    });
    assert!(refused(&stream).contains("do not speak of serial@7"), "{}", refused(&stream));
}

#[test]
fn what_is_at_zero_is_not_sent_and_comes_back() {
    let stream = edited(|records| {
        for record in records {
            if record["path"] == "serial" {
                record["state"] = json!({});
            }
        }
    });
    let back = from_vmstream(&*stream, Vec::new(), Form::Same).expect("it comes back");
    assert_eq!(back.len(), crate::fixtures::stream("100_microvm_S").len());
}

#[test]
fn what_waits_for_a_record_that_never_comes_is_bounded() {
    let hello = Hello::new("toy", "1", Purpose::State);
    let mut stream = Vec::new();
    let mut writer = Writer::new(&mut stream, &hello).expect("a hello");
    let manifest = Manifest { page_size: 4096, ..Manifest::default() };
    writer.manifest(&manifest).expect("a manifest");
    let mut say = |step: Vec<Value>| {
        let note = Note { name: "qemu".to_owned(), value: vec![Value::List(step)].into() };
        writer.note(&note).expect("a note");
    };
    say(vec![15_u8.into(), 0_u8.into(), "never".into()]);
    for _ in 0..80 {
        say(vec![13_u8.into(), Value::Bytes(vec![0; 1_000_000])]);
    }
    writer.abort(&Finding::new("over", "", "device")).expect("an end");
    assert!(refused(&stream).contains("more waits for a device's record"), "{}", refused(&stream));
}
