//! Trees sent and received through memory, honest and hostile.

mod failure;
mod honest;
mod hostile;
mod place;
mod staging;

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bandsox_proto::ByteString;
use bandsox_proto::v2::{
    Done, Entry, EntryKind, ErrorCode, FrameReader, Segment, Status, Trailer, Transfer,
};
use tempfile::TempDir;

use crate::*;

const SEND: SendOptions = SendOptions { owners: Owners::Ignore };
const RECEIVE: ReceiveOptions = ReceiveOptions {
    tree: true,
    owners: Owners::Ignore,
    mode_mask: 0o7777,
    staging: Staging::Always,
    limits: Limits::NONE,
};

fn temp() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn sent(source: &Path) -> Result<(Vec<u8>, Done), SendError> {
    let mut wire = Vec::new();
    let done = send(Source::open(source)?, SEND, &mut wire, &mut |_| ControlFlow::Continue(()))?;
    Ok((wire, done))
}

fn received(wire: &[u8], target: &Path, options: ReceiveOptions) -> Result<Done, ReceiveError> {
    let target = Target::resolve(target, None, Parents::Require)?;
    let mut frames = FrameReader::new(wire);
    receive(&mut frames, &target, options, &mut |_| ControlFlow::Continue(()))
}

fn copied(source: &Path, target: &Path) -> Done {
    let (wire, sent) = sent(source).expect("sends");
    let got = received(&wire, target, RECEIVE).expect("receives");
    assert_eq!((got.files, got.bytes, got.others), (sent.files, sent.bytes, sent.others));
    sent
}

fn names(dir: &Path) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec())
        .collect();
    names.sort();
    names
}

/// A wire that a hostile sender makes: entries, each with data and a trailer if it is a file.
fn forged(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (entry, data) in entries {
        Transfer::Entry(entry.clone()).encode(&mut wire).expect("fits");
        if entry.kind == EntryKind::File {
            wire.extend_from_slice(data);
            wire.extend_from_slice(&source::good_trailer(data));
        }
    }
    Transfer::Done(Done::default()).encode(&mut wire).expect("fits");
    wire
}

fn file(path: &[u8], data: &[u8]) -> Entry {
    let len = data.len() as u64;
    Entry {
        path: path.into(),
        kind: EntryKind::File,
        mode: 0o644,
        uid: None,
        gid: None,
        mtime_ns: 0,
        size: len,
        target: None,
        segments: if len > 0 { vec![Segment { offset: 0, len }] } else { Vec::new() },
    }
}

fn dir(path: &[u8]) -> Entry {
    Entry { kind: EntryKind::Dir, mode: 0o755, ..file(path, b"") }
}

fn link(path: &[u8], target: &str) -> Entry {
    Entry { kind: EntryKind::Symlink, target: Some(target.into()), ..file(path, b"") }
}
