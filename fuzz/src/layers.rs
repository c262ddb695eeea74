//! Names of a layer's members: removals, and what they are near to.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use bandsox_image::base::Limits;
use bandsox_image::fuzzing::image_of_layers;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::tarball::{member, pax};

const LIMITS: Limits = Limits {
    entries: 200,
    file_bytes: 1 << 20,
    source_bytes: 1 << 20,
    image_bytes: 256 << 10,
    metadata_bytes: 64 << 10,
};

/// Lines, each a member of the upper layer: its kind (`d`irectory, `l`ink to the rest after `>`, `h`ard link likewise, anything
/// else a file) and its name.
pub fn run(bytes: &[u8]) {
    let members: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').filter_map(upper).collect();
    let lower = lower();
    let as_given = image(&[&lower, &members.concat()]);
    assert!(
        as_given == image(&[&lower, &members.concat()]),
        "two images of the same layers differ"
    );

    let (markers, others): (Vec<_>, Vec<_>) =
        bytes.split(|byte| *byte == b'\n').partition(|line| is_marker(line));
    let ordered = |first: &[&[u8]], second: &[&[u8]]| {
        let all: Vec<Vec<u8>> = first.iter().chain(second).filter_map(|it| upper(it)).collect();
        image(&[&lower, &all.concat()])
    };
    let (early, late) = (ordered(&markers, &others), ordered(&others, &markers));
    assert!(early == late, "it matters where in the layer the removals stand");
}

/// Whether a line is a file whose name says that it removes something.
fn is_marker(line: &[u8]) -> bool {
    let Some((kind, name)) = line.split_first() else { return false };
    let last = name.rsplit(|byte| *byte == b'/').find(|part| ![&b""[..], b"."].contains(part));
    !b"dlh".contains(kind) && last.is_some_and(|last| last.starts_with(b".wh."))
}

fn upper(line: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = line.split_first()?;
    let text = String::from_utf8_lossy(rest);
    let (name, target) = match text.split_once('>') {
        Some((name, target)) if b"lh".contains(kind) => (name, target),
        Some(_) | None => (&*text, ""),
    };
    let (kind, content) = match kind {
        b'd' => (b'5', &b""[..]),
        b'l' => (b'2', &b""[..]),
        b'h' => (b'1', &b""[..]),
        _ => (b'0', &b"upper"[..]),
    };
    // A record cannot be empty; names of any length fit into it.
    let long: Vec<(&str, &str)> = [("path", name), ("linkpath", target)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    Some([pax(b'x', &long), member(kind, "x", "x", content)].concat())
}

/// Directories, files with several names, and links of every direction.
fn lower() -> Vec<u8> {
    let file = |name| member(b'0', name, "", b"lower");
    let link = |name, target| member(b'2', name, target, b"");
    [
        member(b'5', "a/", "", b""),
        file("a/b"),
        file("a/c/d"),
        file("e"),
        member(b'1', "a/hard", "e", b""),
        link("to-a", "a"),
        link("a/up", ".."),
        link("a/c/root", "/"),
        link("round", "round"),
        link("nowhere", "x/y"),
    ]
    .concat()
}

/// The image of layers, whose every promise was looked at; `None` if one was refused.
fn image(layers: &[&[u8]]) -> Option<Vec<u8>> {
    let image: OwnedFd = memfd_create("image", MemfdFlags::CLOEXEC).expect("a file in memory");
    let image = File::from(image);
    let written =
        image_of_layers(layers, image.try_clone().expect("a descriptor"), &LIMITS).ok()?;
    assert!(written <= LIMITS.image_bytes, "{written} bytes");
    assert_eq!(written, image.metadata().expect("asked").len());
    let mut content = vec![0; usize::try_from(written).expect("at most the limit")];
    image.read_exact_at(&mut content, 0).expect("reads");
    Some(content)
}

/// Layers that remove, replace and reach through links.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "fa/.wh.b\nfa/b\nf.wh.e",
        "fa/.wh..wh..opq\nfa/new\nda/c",
        "fto-a/.wh.b\nfto-a/x\nfa/c/root/.wh.e",
        "da\nfa\nla>e\nfa/.wh.b",
        "hlink>a/b\nf.wh.a\nhother>e",
        "f.wh..wh.plnk/1.2\nh.x>.wh..wh.plnk/1.2\nf.wh..wh.aufs",
        "f.wh.\nf.wh..\nf.wh...\nfa/.wh.x/y",
        "fround/x\nfnowhere/.wh.y\nf/../e",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
