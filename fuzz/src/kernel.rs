//! Debian packages, kernels and modules.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bandsox_image::fuzzing::{boot_image, module, unpack_deb};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::scratch::Scratch;
use crate::tarball::{member, mend};

/// First byte: what follows. 0: a package; 1: the tar in a package, its checksums to be mended; 2: a kernel; 3: the payload
/// of a bzImage; 4: a module.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    match mode % 5 {
        0 => package(rest),
        1 => {
            let mut tar = rest.to_vec();
            mend(&mut tar);
            package(&deb(&tar));
        }
        2 => kernel(rest.to_vec()),
        3 => kernel(bz_image(rest)),
        _ => {
            if let Some((_, without)) = module(rest.to_vec()) {
                assert!(rest.starts_with(&without));
            }
        }
    }
}

/// Nothing is written but plain files, into the directory that was given for it.
fn package(bytes: &[u8]) {
    let scratch = Scratch::new();
    let file = File::from(memfd_create("deb", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all_at(bytes, 0).expect("memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    unpack_deb(Path::new(&path), &scratch.inner()).ok();
    let mut total = 0;
    for entry in fs::read_dir(scratch.inner()).expect("lists") {
        let about = entry.expect("lists").metadata().expect("asked");
        assert!(about.is_file());
        total += about.len();
    }
    assert!(total <= (bytes.len() as u64) * MOST_GROWTH + (1 << 20));
    scratch.assert_unharmed();
}

/// What gzip makes of zeros, and more.
const MOST_GROWTH: u64 = 1100;

/// A release is one that can be a directory's name.
fn kernel(bytes: Vec<u8>) {
    let length = bytes.len();
    if let Ok((version, image)) = boot_image(bytes) {
        assert!(!version.is_empty() && !version.contains('/') && !version.starts_with('.'));
        assert!(image.len() <= (64 << 20) + length * 300);
    }
}

fn deb(tar: &[u8]) -> Vec<u8> {
    let header = |name: &str, size: usize| format!("{name:<48}{size:<10}`\n").into_bytes();
    let start = [b"!<arch>\n", header("debian-binary", 4).as_slice(), b"2.0\n"].concat();
    [start, header("data.tar", tar.len()), tar.to_vec()].concat()
}

fn bz_image(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| {
        image.get_mut(at..at + bytes.len()).expect("it fits").copy_from_slice(bytes);
    };
    put(0x1f1, &[1]);
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x20e, &0x100_u16.to_le_bytes());
    put(0x24c, &u32::try_from(payload.len()).unwrap_or(0).to_le_bytes());
    put(0x300, b"6.1.0-test (a@b) #1\0");
    image.extend_from_slice(payload);
    image
}

/// An ELF file with one PVH note and one `.modinfo` section.
fn elf() -> Vec<u8> {
    let info = b"depends=a,b\0softdep=pre: c post: d\0vermagic=6.1 SMP\0";
    let note = [4_u32, 4, 18].map(u32::to_le_bytes).concat();
    let note = [note.as_slice(), b"Xen\0", &[0; 4]].concat();
    let names = b"\0.modinfo\0";
    let (note_at, names_at, info_at) = (300, 340, 360);
    let mut elf = vec![0; info_at];
    elf.extend_from_slice(info);
    let mut put = |at: usize, bytes: &[u8]| {
        elf.get_mut(at..at + bytes.len()).expect("it fits").copy_from_slice(bytes);
    };
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &62_u16.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(40, &128_u64.to_le_bytes());
    for (at, value) in [(54, 56_u16), (56, 1), (58, 64), (60, 2), (62, 0)] {
        put(at, &value.to_le_bytes());
    }
    put(64, &4_u32.to_le_bytes());
    put(64 + 8, &(note_at as u64).to_le_bytes());
    put(64 + 32, &(note.len() as u64).to_le_bytes());
    for (at, name, offset, size) in
        [(128, 0_u32, names_at, names.len()), (192, 1, info_at, info.len())]
    {
        put(at, &name.to_le_bytes());
        put(at + 24, &(offset as u64).to_le_bytes());
        put(at + 32, &(size as u64).to_le_bytes());
    }
    put(note_at, &note);
    put(names_at, names);
    elf
}

/// One of each, small.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let tar = [
        member(b'0', "./boot/vmlinuz-6.1", "", b"kernel"),
        member(b'0', "./boot/config-6.1", "", b"CONFIG_A=y\n"),
        member(b'0', "./usr/lib/modules/6.1/kernel/fs/a.ko", "", b"module"),
        member(b'0', "./lib/modules/6.1/modules.builtin", "", b"kernel/b.ko\n"),
        member(b'2', "./lib/modules/6.1/kernel/c.ko", "/etc/passwd", b""),
    ]
    .concat();
    let elf = elf();
    let packed = |magic: &[u8], body: &[u8]| [&[3], magic, body].concat();
    let length = u32::try_from(elf.len()).expect("small").to_le_bytes();
    let block = lz4_literals(&elf);
    let block_length = u32::try_from(block.len()).expect("small").to_le_bytes();
    let lz4 = [block_length.as_slice(), &block, &length].concat();
    let banner = b"Linux version 6.1.0 (x)\0";
    let signature = [&[0; 8][..], &4_u32.to_be_bytes(), b"~Module signature appended~\n"].concat();
    vec![
        [&[0], deb(&tar).as_slice()].concat(),
        [&[1], tar.as_slice()].concat(),
        [&[2], elf.as_slice(), banner].concat(),
        [&[2], bz_image(&elf).as_slice()].concat(),
        packed(b"", &elf),
        packed(&[0x02, 0x21, 0x4c, 0x18], &lz4),
        [&[4], elf.as_slice(), b"sign", &signature].concat(),
    ]
}

/// An LZ4 block that holds `bytes` as they are.
fn lz4_literals(bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0xf0];
    let mut left = bytes.len() - 15;
    while left >= 255 {
        block.push(255);
        left -= 255;
    }
    block.push(u8::try_from(left).expect("less than 255"));
    block.extend_from_slice(bytes);
    block
}
