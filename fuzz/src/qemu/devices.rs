//! Devices of a file, found from its end: they are those that reading all of it finds.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};
use vmstream_qemu::{Broken, Event, ReadError, Reader, SectionHead, SectionKind, Sink};

/// An event, and the bytes that it takes; memory's records are all one, and so is all that is behind a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) range: Range<u64>,
    pub(super) kind: Kind,
    /// The event in full, unless it comes in pieces.
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Memory,
    Device,
    FullSection,
    Command,
    End,
    Trailing,
    Other,
}

impl Told {
    #[expect(clippy::wildcard_enum_match_arm, reason = "what else there is, is alike here")]
    pub(super) fn of(range: Range<u64>, event: &Event<'_>) -> Self {
        let kind = match event {
            Event::Ram(_) => Kind::Memory,
            Event::Device(_) | Event::Opaque(_) => Kind::Device,
            Event::Section(SectionHead { kind: SectionKind::Full, .. }) => Kind::FullSection,
            Event::Command(_) => Kind::Command,
            Event::End => Kind::End,
            Event::Trailing(_) => Kind::Trailing,
            _ => Kind::Other,
        };
        // How these are cut into pieces is not promised.
        let is_in_pieces = matches!(kind, Kind::Memory | Kind::Trailing);
        let what = if is_in_pieces { String::new() } else { format!("{event:?}") };
        Self { range, kind, what }
    }
}

/// All that a way of reading tells, and how it ends.
pub(super) fn told(
    read: impl FnOnce(&mut dyn Sink) -> Result<(), ReadError>,
) -> (Vec<Told>, Result<(), ReadError>) {
    let mut all: Vec<Told> = Vec::new();
    let result = read(&mut |range: Range<u64>, event: &Event<'_>| -> io::Result<()> {
        let new = Told::of(range, event);
        match all.last_mut() {
            Some(last)
                if last.kind == new.kind
                    && matches!(new.kind, Kind::Memory | Kind::Trailing)
                    && last.range.end == new.range.start =>
            {
                last.range.end = new.range.end;
            }
            _ => all.push(new),
        }
        Ok(())
    });
    (all, result)
}

/// Reads a file in all three ways.
pub(super) fn check(bytes: &[u8]) {
    let (all, whole) = told(|sink| Reader::new().read(&mut &*bytes, sink));
    with_file(bytes, |file| {
        let (state, read) = told(|sink| Reader::new().read_for_state(file, sink));
        assert_eq!(state, all, "the same without its pages");
        assert_eq!(spelt(&read), spelt(&whole));
        let (found, read) = told(|sink| Reader::new().read_devices(file, sink));
        compare((&all, &whole), (&found, &read));
    });
}

/// What was read of all bytes, and what of devices.
fn compare(
    (all, whole): (&[Told], &Result<(), ReadError>),
    (found, read): (&[Told], &Result<(), ReadError>),
) {
    let is_seam = |pair: &[Told]| pair[0].range.end != pair[1].range.start;
    let Some(seam) = found.windows(2).position(is_seam) else {
        assert_eq!(found, all, "nothing was left out");
        return assert_eq!(spelt(read), spelt(whole));
    };
    let (before, behind) = found.split_at(seam + 1);
    assert_eq!(behind.windows(2).position(is_seam), None, "memory is left once");
    let left = before[seam].range.end..behind[0].range.start;
    assert!(left.start < left.end, "{left:?}");
    assert_eq!(behind[0].kind, Kind::FullSection, "a device comes behind memory");
    assert_eq!(all.get(..before.len()), Some(before), "the same up to memory");
    if let Err(error) = whole {
        // What is wrong with memory is not found; what comes before it is.
        return assert!(at(error) >= left.start, "{error:?} before {left:?}");
    }
    let is_within = |told: &&Told| left.contains(&told.range.start);
    let commanded = all.iter().filter(is_within).any(|told| told.kind == Kind::Command);
    // A stream that ends before its file does is another than the one that ends with it.
    if commanded || all.iter().any(|told| told.kind == Kind::Trailing) {
        return;
    }
    assert_eq!(spelt(read), spelt(whole));
    let rest = all.partition_point(|told| told.range.start < left.end);
    assert_eq!(behind, &all[rest..], "devices are the same");
}

fn at(error: &ReadError) -> u64 {
    match error {
        ReadError::Broken(Broken { offset, .. })
        | ReadError::Io { offset, .. }
        | ReadError::Sink { offset, .. } => *offset,
        _ => panic!("an error says where: {error:?}"),
    }
}

/// Which rule is broken, and not where: what is cut off is missed at the end of what has been read by then.
fn spelt(result: &Result<(), ReadError>) -> String {
    match result {
        Err(ReadError::Broken(broken)) => broken.rule.id().to_owned(),
        other => format!("{other:?}"),
    }
}

/// Lends a file that holds the bytes: one for all inputs, since making one costs more than reading it.
fn with_file(bytes: &[u8], read: impl FnOnce(&File)) {
    thread_local! {
        static FILE: OnceCell<File> = const { OnceCell::new() };
    }
    FILE.with(|file| {
        let make = || memfd_create("stream", MemfdFlags::CLOEXEC).expect("memory").into();
        let file = file.get_or_init(make);
        file.set_len(u64::try_from(bytes.len()).expect("short")).expect("resized");
        file.write_all_at(bytes, 0).expect("written");
        read(file);
    });
}
