//! Two streams of paused machines: as ours and back.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use vmstream::writer::Compress;
use vmstream::{Event, Reader, Value};
use vmstream_qemu::{Event as QemuEvent, RamRecord};
use vmstream_transcode::{Content, Form, Options, Origin, from_vmstream, open, to_vmstream};

use crate::measure::Sizes;

const STREAMS: [&str; 2] = ["72_q35_S", "100_microvm_S"];

/// A stream by its name.
pub(crate) fn stream(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../vmstream-qemu/tests/fixtures")
        .join(format!("{name}.mig.zst"));
    let out = Command::new("zstd").arg("-dc").arg(path).output().expect("zstd runs");
    assert!(out.status.success());
    out.stdout
}

/// As ours.
pub(crate) fn ours(mut bytes: &[u8]) -> Vec<u8> {
    to_vmstream(&mut bytes, Vec::new(), &Options::default()).expect("valid").0
}

#[test]
fn it_comes_back_as_it_was() {
    for name in STREAMS {
        let bytes = stream(name);
        let start = Instant::now();
        let ours = ours(&bytes);
        let there = start.elapsed();
        let start = Instant::now();
        let back = from_vmstream(&*ours, Vec::new(), Form::Same).expect("it comes back");
        eprintln!("{name}: {} bytes, {there:?} there, {:?} back", bytes.len(), start.elapsed());
        eprintln!("{name}: {}", Sizes::of(&ours));

        assert!(back == bytes, "{name}: {} bytes, not {}", back.len(), bytes.len());
    }
}

#[test]
fn state_alone_says_the_same_of_the_machine_without_its_pages_and_leads_nowhere_back() {
    let told = |stream: &[u8]| {
        let mut reader = Reader::new(stream);
        let mut events = Vec::new();
        while let Some(event) = reader.next_event().expect("valid") {
            events.push(event);
        }
        events
    };
    for name in STREAMS {
        let bytes = stream(name);
        let options =
            Options { content: Content::State, compress: Compress::Nothing, ..Options::default() };
        let (state, _) = to_vmstream(&mut &*bytes, Vec::new(), &options).expect("valid");

        let of_machine = |event: &Event| {
            matches!(event, Event::Manifest(_) | Event::Schema(..) | Event::Devices(_))
        };
        let (all, state_told) = (told(&ours(&bytes)), told(&state));
        let pick = |events: &[Event]| {
            events.iter().filter(|event| of_machine(event)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(pick(&state_told), pick(&all), "{name}");
        let is_more = |event: &Event| matches!(event, Event::Pages(_) | Event::Note(_));
        assert!(!state_told.iter().any(is_more), "{name}");
        assert!(from_vmstream(&*state, Vec::new(), Form::Same).is_err(), "{name}");
    }
}

/// What the main channel of a multifd set is, where no flush tells: zeros, and no page with data.
#[test]
fn a_stream_whose_pages_are_elsewhere_is_refused() {
    let mut writer = vmstream_qemu::Writer::new(Vec::new());
    let whole = stream(STREAMS[1]);
    let copied =
        vmstream_qemu::Reader::new().read(&mut &*whole, &mut |_, event: &QemuEvent<'_>| {
            if matches!(event, QemuEvent::Ram(RamRecord::Data { .. })) {
                return Ok(());
            }
            writer.event(event).map_err(io::Error::other)
        });
    copied.expect("valid");

    let refused = to_vmstream(&mut &*writer.into_inner(), Vec::new(), &Options::default());

    let refused = refused.map(drop).expect_err("no page has data").to_string();
    assert!(refused.contains("multifd"), "{refused}");
}

#[test]
fn it_is_read_through_a_pipe_as_if_it_were_ours() {
    let bytes = stream(STREAMS[1]);
    let want = ours(&bytes);

    let mut opened = open(io::Cursor::new(bytes), Options::default()).expect("it can be read");
    assert_eq!(opened.origin(), Origin::Qemu);
    let mut got = Vec::new();
    opened.read_to_end(&mut got).expect("valid");
    assert!(got == want);

    let mut opened = open(io::Cursor::new(want), Options::default()).expect("it can be read");
    assert_eq!(opened.origin(), Origin::Vmstream);
    let mut again = Vec::new();
    opened.read_to_end(&mut again).expect("valid");
    assert!(again == got);
}

#[test]
fn records_have_names_and_schemas() {
    let ours = ours(&stream(STREAMS[0]));
    let mut reader = Reader::new(&*ours);
    let mut kinds = BTreeMap::new();
    while let Some(event) = reader.next_event().expect("valid") {
        if let Event::Devices(records) = event {
            for record in records {
                let schema = reader.schema(record.schema).expect("it came before");
                assert_eq!(schema.name, record.kind);
                if record.path == "i8254" {
                    let state = Value::Map(schema.complete(&record.state));
                    let count = state.at("channels.0.count").and_then(Value::as_int);
                    assert_eq!(count, Some(0x1_0000), "{state:?}");
                }
                kinds.insert(record.path, record.kind);
            }
        }
    }
    let kind = |path: &str| kinds.get(path).map(String::as_str);
    assert_eq!(kind("0000:00:02.0/e1000e"), Some("e1000e@1"), "{kinds:?}");
    assert_eq!((kind("i8259"), kind("i8259@1")), (Some("i8259@1"), Some("i8259@1")));
    assert_eq!(kinds.len(), 34);
    assert!(kinds.values().all(|kind| !kind.ends_with("/opaque")));
}

/// Gives what was sent so far, and waits for more.
struct Waiting(std::sync::mpsc::Receiver<Vec<u8>>, Vec<u8>);

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.is_empty() {
            self.1 = self.0.recv().unwrap_or_default();
        }
        let count = buffer.len().min(self.1.len());
        buffer[..count].copy_from_slice(&self.1[..count]);
        self.1.drain(..count);
        Ok(count)
    }
}

#[test]
fn pages_come_before_the_end_of_the_stream_has() {
    let bytes = stream(STREAMS[0]);
    let (sender, receiver) = std::sync::mpsc::channel();
    // The state of the devices lies behind; no more than this will come for now.
    let cut = bytes.len() - 500_000;
    sender.send(bytes[..cut].to_vec()).expect("it is waited for");
    let options = Options { reader: vmstream_qemu::Reader::new().live(), ..Options::default() };
    let opened = open(Waiting(receiver, Vec::new()), options).expect("it can be read");

    let mut reader = Reader::new(opened);
    let mut pages = 0;
    while pages == 0 {
        let event = reader.next_event().expect("valid").expect("more comes");
        pages += u32::from(matches!(event, Event::Pages(_)));
    }
    sender.send(bytes[cut..].to_vec()).expect("it is waited for");
    while reader.next_event().expect("valid").is_some() {}
    reader.expect_end().expect("it ends, though the connection stays open");
    drop(sender);
}
