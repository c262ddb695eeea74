//! Devices that are handed on before they are understood.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use vmstream::message::{Hello, Note};
use vmstream::{Event, Reader, Value, Writer};
use vmstream_transcode::{
    Form, Options, Way, from_vmstream, from_vmstream_by, is_last_ahead, to_vmstream,
};

use crate::fixtures::stream;

const NAME: &str = "100_microvm_S";
/// More than its devices have.
const TAIL: usize = 400_000;

/// Gives so many bytes at once.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Memory comes fast, so that the test does.
        let count = if self.0.len() > TAIL { self.0.len() - TAIL } else { self.1 };
        let most = buffer.len().min(count).min(self.0.len());
        self.0.read(&mut buffer[..most])
    }
}

fn ahead(bytes: &[u8], at_once: usize) -> Vec<u8> {
    let given = Arc::new(AtomicBool::new(false));
    let options = Options { ahead: Some(Arc::clone(&given)), ..Options::default() };
    let mut source = Slowly(bytes, at_once);
    let ours = to_vmstream(&mut source, Vec::new(), &options).expect("valid").0;
    assert!(given.load(Ordering::SeqCst), "the last of it is said to be given");
    ours
}

/// The events of a stream, with what an onlooker of `Form::Same` would have been given by then.
fn events(ours: &[u8]) -> Vec<Event> {
    let mut reader = Reader::new(ours);
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().expect("valid") {
        events.push(event);
    }
    events
}

fn is_ahead(event: &Event) -> bool {
    matches!(event, Event::Note(note) if note.name == "qemu-ahead")
}

/// What was given ahead, but for its last piece; and that.
fn given(ours: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut early, mut last) = (Vec::new(), Vec::new());
    for event in events(ours) {
        let Event::Note(note) = &event else { continue };
        if is_ahead(&event) {
            let bytes = note.value.at("bytes").and_then(Value::as_bytes).expect("bytes");
            if is_last_ahead(&event) { &mut last } else { &mut early }.extend_from_slice(bytes);
        }
    }
    (early, last)
}

#[test]
fn what_is_given_ahead_comes_back_once() {
    let bytes = stream(NAME);
    for at_once in [1, 7, 4096, usize::MAX] {
        let ours = ahead(&bytes, at_once);
        let back = from_vmstream(&*ours, Vec::new(), Form::Same).expect("it comes back");
        assert!(back == bytes, "{at_once} at once");
        let way = Way {
            form: Form::Same,
            ahead: false,
            seen: &mut |_, _| Ok(()),
            renamed: &|_| None,
            is_left_out: &|_| false,
        };
        let back = from_vmstream_by(&*ours, Vec::new(), way).expect("records are enough");
        assert!(back == bytes, "{at_once} at once");
        // It has the pages first, and needs no help.
        let other = from_vmstream(&*ours, Vec::new(), Form::Precopy).expect("it can be written");
        assert!(other.ends_with(&given(&ours).1), "the end is the same");
    }
}

#[test]
fn the_end_is_given_last_and_with_the_description_alone() {
    let bytes = stream(NAME);
    for at_once in [1, 7, 4096, usize::MAX] {
        let (early, last) = given(&ahead(&bytes, at_once));
        assert!(bytes.ends_with(&[&*early, &*last].concat()), "{at_once}: the rest of the stream");
        let (at, json) = (last.iter().position(|byte| *byte == b'{').expect("JSON"), b"{\"config");
        assert!(last[at..].starts_with(json) || last[at..].starts_with(b"{\"page_size"), "JSON");
        assert_eq!(
            last[at - 6..at - 4],
            [0x00, 0x06],
            "end marker, and that a description follows"
        );
    }
}

/// Takes bytes, and sends on how many there are when somebody waits for them.
#[derive(Debug)]
struct Taken(u64, Sender<u64>);

impl Write for Taken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.send(self.0).map_err(io::Error::other)
    }
}

#[test]
fn all_of_it_is_handed_on_before_the_first_record() {
    let bytes = stream(NAME);
    let ours = ahead(&bytes, 4096);
    let all = events(&ours);
    let last = all.iter().position(is_last_ahead).expect("it is given");
    let record = all.iter().position(|event| matches!(event, Event::Devices(_)));
    assert!(last < record.expect("there are records"));

    // Without what comes behind the last piece, QEMU has its whole stream.
    let (taken, counts): (_, Receiver<u64>) = channel();
    let mut rest = &*ours;
    let mut reader = Reader::new(&mut rest);
    while !is_last_ahead(&reader.next_event().expect("valid").expect("it is there")) {}
    let cut = ours.len() - rest.len();
    from_vmstream(&ours[..cut], Taken(0, taken), Form::Same).expect_err("it has no end");
    assert_eq!(counts.try_iter().last(), Some(bytes.len() as u64));
}

/// The stream with its notes changed.
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest says nothing of the machine")]
fn changed(ours: &[u8], mut change: impl FnMut(&mut Note)) -> Vec<u8> {
    let mut writer = None;
    for event in events(ours) {
        if let Event::Hello(hello) = &event {
            let hello: &Hello = hello;
            writer = Some(Writer::new(Vec::new(), hello).expect("it can be written"));
            continue;
        }
        let writer: &mut Writer<_> = writer.as_mut().expect("hello comes first");
        match event {
            Event::Note(mut note) => {
                change(&mut note);
                writer.note(&note)
            }
            Event::Schema(id, schema) => writer.schema_as(id, &schema),
            Event::Manifest(manifest) => writer.manifest(&manifest),
            Event::Pages(pages) => writer.pages(&pages),
            Event::Switch(switch) => writer.switch(&switch),
            Event::Devices(records) => writer.devices(&records, vmstream::writer::Finality::Final),
            _ => Ok(()),
        }
        .expect("it can be written");
    }
    writer.expect("there was a hello").finish().expect("it can be written").0
}

fn with_bytes(note: &mut Note, change: impl FnOnce(&mut Vec<u8>)) {
    if note.name == "qemu-ahead"
        && let Value::Map(map) = &mut note.value
    {
        let mut bytes = map.get("bytes").and_then(Value::as_bytes).expect("bytes").to_vec();
        change(&mut bytes);
        map.insert("bytes", Value::Bytes(bytes));
    }
}

#[test]
fn what_was_loaded_is_what_the_records_say_or_it_is_said() {
    let ours = ahead(&stream(NAME), 4096);
    let refused = |stream: &[u8]| {
        let error = from_vmstream(stream, Vec::new(), Form::Same).expect_err("refused");
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    assert_eq!(
        from_vmstream(&*changed(&ours, |_| {}), Vec::new(), Form::Same).expect("unchanged"),
        stream(NAME)
    );
    let mut first = true;
    let other = changed(&ours, |note| {
        with_bytes(note, |bytes| bytes[100] ^= u8::from(std::mem::take(&mut first)));
    });
    assert!(
        refused(&other).contains("given ahead is not what the records say"),
        "{}",
        refused(&other)
    );
    let more = changed(&ours, |note| {
        if note.value.at("last").and_then(Value::as_bool) == Some(true) {
            with_bytes(note, |bytes| bytes.push(0));
        }
    });
    assert!(refused(&more).contains("more was given ahead than there is"), "{}", refused(&more));
    let none = changed(&ours, |note| {
        if note.name == "qemu-ahead" {
            note.value = Value::from(1_u8);
        }
    });
    assert!(refused(&none).contains("a note is broken"), "{}", refused(&none));
}

/// Nothing tells where its devices end.
#[test]
fn of_a_stream_without_a_description_the_end_is_not_given() {
    let bytes = stream(NAME);
    let at = bytes.windows(2).rposition(|two| two == [0x00, 0x06]).expect("a description");
    let given = Arc::new(AtomicBool::new(false));
    let options = Options { ahead: Some(Arc::clone(&given)), ..Options::default() };
    let (ours, _) = to_vmstream(&mut &bytes[..=at], Vec::new(), &options).expect("valid");
    assert!(!given.load(Ordering::SeqCst));
    assert!(!events(&ours).iter().any(is_last_ahead));
    let back = from_vmstream(&*ours, Vec::new(), Form::Same).expect("it comes back");
    assert!(back == bytes[..=at]);
}
