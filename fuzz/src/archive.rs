//! Tar archives, plain and compressed, and the EROFS images made of them.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use bandsox_image::base::Limits;
use bandsox_image::fuzzing::image_of_tar;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::tarball::{member, mend, pax, sparse};

const LIMITS: Limits = Limits {
    entries: 100,
    file_bytes: 8 << 20,
    source_bytes: 1 << 20,
    image_bytes: 64 << 10,
    metadata_bytes: 64 << 10,
};

/// First byte: what follows. 0: a file as it is; 1: a tar whose checksums are to be mended; 2: likewise, and built twice.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let mut tar = rest.to_vec();
    if mode % 3 > 0 {
        mend(&mut tar);
    }
    let image = image_of(&tar);
    if mode % 3 == 2 {
        assert!(image == image_of(&tar), "two images of one archive differ");
    }
}

/// The image, whose every promise was looked at; `None` if the archive was refused.
fn image_of(tar: &[u8]) -> Option<Vec<u8>> {
    let image: OwnedFd = memfd_create("image", MemfdFlags::CLOEXEC).expect("a file in memory");
    let image = File::from(image);
    let outcome = image_of_tar(tar, image.try_clone().expect("a descriptor"), &LIMITS);
    let length = image.metadata().expect("asked").len();
    assert!(length <= LIMITS.image_bytes, "{length} bytes");
    let bytes = outcome.ok()?;
    assert_eq!(bytes, length);
    assert!(bytes % 4096 == 0);
    let mut content = vec![0; usize::try_from(bytes).expect("at most the limit")];
    image.read_exact_at(&mut content, 0).expect("reads");
    let superblock = content.get(1024..1028).expect("a block");
    assert_eq!(superblock, [0xe2, 0xe1, 0xf5, 0xe0], "the magic of EROFS");
    Some(content)
}

/// Archives with every kind of member.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let ustar = [
        member(b'5', "d/", "", b""),
        member(b'0', "d/file", "", b"content"),
        member(b'1', "d/hard", "d/file", b""),
        member(b'2', "d/soft", "../x", b""),
        member(b'3', "dev", "", b""),
        member(b'6', "fifo", "", b""),
    ]
    .concat();
    let gnu = [
        member(b'L', "././@LongLink", "", b"a/long/name\0"),
        member(b'K', "././@LongLink", "", b"a/long/target\0"),
        member(b'2', "short", "short", b""),
        sparse("holes", 4096, b"data", 100_000),
    ]
    .concat();
    let xattr = [
        pax(b'g', &[("uid", "7")]),
        pax(
            b'x',
            &[("path", "p/q"), ("mtime", "-1.5"), ("SCHILY.xattr.user.a", "v"), ("size", "3")],
        ),
        member(b'0', "x", "", b"abc"),
    ]
    .concat();
    let holes = [
        pax(
            b'x',
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "s"),
                ("GNU.sparse.realsize", "9000"),
            ],
        ),
        member(b'0', "x", "", &[&b"1\n8192\n5\n"[..], &[0; 503], b"hello"].concat()),
    ]
    .concat();
    let old_map = [
        pax(b'x', &[("GNU.sparse.size", "9000"), ("GNU.sparse.map", "0,1,8192,2")]),
        member(b'0', "x", "", b"abc"),
    ]
    .concat();
    let mut gzip = GzEncoder::new(vec![0], Compression::best());
    gzip.write_all(&[ustar.as_slice(), &[0; 1024]].concat()).expect("memory");
    let plain = [ustar, gnu, xattr, holes, old_map];
    let plain = plain.iter().enumerate().map(|(at, tar)| {
        let mode = if at == 0 { 2 } else { 1 };
        [&[mode], tar.as_slice()].concat()
    });
    let compressed = [gzip.finish().expect("memory"), [&[0], XZ].concat(), [&[0], ZSTD].concat()];
    plain.chain(compressed).collect()
}

/// An empty member's tar by xz and by zstd: nothing here can make them.
const XZ: &[u8] = include_bytes!("archive/empty.tar.xz");
const ZSTD: &[u8] = include_bytes!("archive/empty.tar.zst");
