//! A tree from a hostile sender: nothing outside of the target changes.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;

use bandsox_files::{Limits, Owners, Parents, ReceiveOptions, Staging, Target, receive};
use bandsox_proto::ByteString;
use bandsox_proto::v2::{Done, Entry, EntryKind, FrameReader, Segment, Status, Trailer, Transfer};
use xxhash_rust::xxh64::xxh64;

use crate::scratch::{Scratch, walk};
use crate::script::Script;

const LIMITS: Limits = Limits { entries: 200, bytes: 1 << 20 };

/// First byte: what follows. Bit 0: the bytes of the wire, or a script of entries. Bits 1 and 2: where to: a directory
/// that is there, a name that is not, a name that is a link, a file that is there. Bit 3: a single file only.
/// Bit 4: new directories need no temporary names.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let wire = if mode & 1 == 0 { rest.to_vec() } else { forge(rest) };
    let scratch = Scratch::new();
    let to = scratch.inner().join("to");
    match mode >> 1 & 3 {
        0 => {
            fs::create_dir(&to).expect("makes");
            symlink(scratch.outside(), to.join("a")).expect("links");
            symlink(scratch.outside().join("canary"), to.join("b")).expect("links");
            fs::write(to.join("c"), b"old").expect("writes");
        }
        1 => {}
        2 => symlink("real", &to).expect("links"),
        _ => fs::write(&to, b"old").expect("writes"),
    }

    let target = Target::resolve(&to, None, Parents::Require).expect("a good target");
    let options = ReceiveOptions {
        tree: mode & 8 == 0,
        owners: Owners::Keep,
        mode_mask: 0o777,
        staging: if mode & 16 == 0 { Staging::Always } else { Staging::Replacing },
        limits: LIMITS,
    };
    let mut moved = 0;
    let mut watch = |count: u64| {
        moved += count;
        ControlFlow::Continue(())
    };
    let outcome = receive(&mut FrameReader::new(wire.as_slice()), &target, options, &mut watch);
    assert!(moved <= wire.len() as u64 && moved <= LIMITS.bytes);

    scratch.assert_unharmed();
    look(&scratch, &wire);
    if let Ok(done) = outcome {
        assert!(done.files + done.others <= LIMITS.entries);
        assert!(done.bytes <= LIMITS.bytes);
    }
}

/// Files, directories and links, none with more rights than the mask gives, no leftovers, and no more than may come.
fn look(scratch: &Scratch, wire: &[u8]) {
    use std::os::unix::fs::MetadataExt as _;

    let names_one = wire.windows(9).any(|window| window == b".bandsox-");
    let (mut count, mut stored) = (0, 0);
    walk(&scratch.inner(), &mut |path, about| {
        let kind = about.file_type();
        assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{}", path.display());
        assert!(about.mode() & 0o7000 == 0, "{} has mode {:o}", path.display(), about.mode());
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(names_one || !name.starts_with(".bandsox-"), "{name} was left");
        count += 1;
        stored += about.blocks() * 512;
    });
    // The target and what was there before.
    assert!(count <= LIMITS.entries + 5);
    assert!(stored <= 2 * LIMITS.bytes + count * 8192, "{stored} bytes in {count} entries");
}

/// Frames in the right form, whatever they say.
fn forge(bytes: &[u8]) -> Vec<u8> {
    let mut script = Script::new(bytes);
    let mut wire = Vec::new();
    while entry(&mut script, &mut wire).is_some() {}
    let done = Transfer::Done(Done::default());
    done.encode(&mut wire).expect("small");
    wire
}

fn entry(script: &mut Script<'_>, wire: &mut Vec<u8>) -> Option<()> {
    let kind = script.choose([EntryKind::File, EntryKind::Dir, EntryKind::Symlink])?;
    let path = path(script)?;
    let flags = script.byte()?;
    let data = if kind == EntryKind::File { script.counted()? } else { &[] };
    let offset = if flags & 1 == 0 { 0 } else { script.long()? };
    let len = data.len() as u64;
    let size = if kind == EntryKind::File { offset.checked_add(len)? } else { 0 };
    let size = if flags & 2 == 0 { size } else { size.saturating_add(script.half()?.into()) };
    let segments = if len > 0 { vec![Segment { offset, len }] } else { Vec::new() };
    let target = match kind {
        EntryKind::Symlink => Some(self::path(script)?),
        EntryKind::File
        | EntryKind::Dir
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharDevice
        | EntryKind::BlockDevice => None,
    };
    let entry = Entry {
        path,
        kind,
        mode: if flags & 4 == 0 { 0o755 } else { script.half()?.into() },
        uid: (flags & 8 != 0).then_some(12),
        gid: None,
        mtime_ns: if flags & 16 == 0 { 0 } else { script.long()?.cast_signed() },
        size,
        target,
        segments,
    };
    Transfer::Entry(entry).encode(wire).expect("small");
    if kind == EntryKind::File {
        wire.extend_from_slice(data);
        let status = if flags & 32 == 0 { Status::Complete } else { Status::SourceFailed };
        let xxh64 = xxh64(data, 0) ^ u64::from(flags & 64);
        wire.extend_from_slice(&Trailer { status, xxh64 }.to_bytes());
    }
    Some(())
}

/// A path of few names, so that entries meet; or any.
fn path(script: &mut Script<'_>) -> Option<ByteString> {
    let parts = script.byte()?;
    if parts == 0xff {
        return Some(script.counted()?.into());
    }
    let mut path = String::new();
    for at in 0..parts % 5 {
        if at > 0 {
            path.push('/');
        }
        path.push_str(script.choose(["a", "b", "c", "d", "..", "../outside", "/tmp", ""])?);
    }
    Some(path.into())
}

/// An honest tree by both ways, and what a hostile sender would try first.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let root: &[u8] = &[1, 0, 0];
    let dir: &[u8] = &[1, 1, 3, 0];
    let file: &[u8] = &[0, 2, 3, 1, 0, 3, b'a', b'b', b'c'];
    let sparse: &[u8] = &[0, 1, 2, 1 | 2 | 4 | 16, 2, b'x', b'y', 0, 0, 1, 0, 0, 0, 0, 0, 9, 0];
    let sparse_end: &[u8] = &[0xed, 0x0f, 1, 2, 3, 4, 5, 6, 7, 0];
    let link: &[u8] = &[2, 1, 1, 0, 2, 5, 0];
    let through: &[u8] = &[0, 2, 0, 1, 0, 1, b'x'];
    let honest = [root, dir, file, sparse, sparse_end].concat();
    let raw = [&[2], forge(&honest).as_slice()].concat();
    let script = |mode: u8, parts: &[&[u8]]| [&[mode], parts.concat().as_slice()].concat();
    vec![
        raw,
        script(1, &[&honest]),
        script(3, &[&honest]),
        script(3, &[root, link, through]),
        script(1, &[root, through]),
        script(7, &[&[0, 0, 0, 2, b'x', b'y']]),
        script(5, &[&[0, 0, 0, 2, b'x', b'y']]),
        script(13, &[&[0, 0, 32, 2, b'x', b'y']]),
    ]
}
