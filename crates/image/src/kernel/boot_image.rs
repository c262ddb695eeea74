//! From a distribution's `vmlinuz` to what QEMU starts fastest.
//!
//! A `bzImage` unpacks itself inside the guest, which takes seconds under emulation; the ELF `vmlinux` inside it starts at
//! once. Source: Linux `Documentation/arch/x86/boot.rst`, fields of the setup header.

use std::io::Read as _;

use super::elf::Elf;
use crate::archive::{Compression, decoder};

/// A kernel that QEMU can start.
#[derive(Debug)]
pub(super) struct BootImage {
    /// `vmlinux` for ELF, `vmlinuz` for a bzImage that could not be unpacked.
    pub(super) file_name: &'static str,
    /// Release as `uname -r` prints it.
    pub(super) version: String,
    pub(super) bytes: Vec<u8>,
}

/// Why a file is no kernel for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootImageError {
    /// Neither a bzImage nor an x86-64 ELF file.
    #[error("not an x86-64 Linux kernel: neither a bzImage nor an ELF file")]
    NotAKernel,
    /// An ELF kernel built without `CONFIG_PVH`.
    #[error(
        "this ELF kernel has no PVH entry point; use its bzImage (vmlinuz), or build it with CONFIG_PVH=y"
    )]
    NoPvh,
    /// No release string where it should be.
    #[error("the kernel does not say its version")]
    NoVersion,
}

impl BootImage {
    /// Unpacks `bytes`, the contents of a `vmlinuz` or `vmlinux`.
    pub(super) fn from_file(bytes: Vec<u8>) -> Result<Self, BootImageError> {
        if let Some(elf) = Elf::new(&bytes) {
            if !elf.has_pvh_note() {
                return Err(BootImageError::NoPvh);
            }
            let version = banner_version(&bytes).ok_or(BootImageError::NoVersion)?;
            return Ok(Self { file_name: "vmlinux", version, bytes });
        }
        let header = SetupHeader::of(&bytes).ok_or(BootImageError::NotAKernel)?;
        let version = header.version(&bytes).ok_or(BootImageError::NoVersion)?;
        // A compressor that we do not know, or no PVH: slower, but it boots.
        Ok(match header.unpack(&bytes) {
            Some(vmlinux) => Self { file_name: "vmlinux", version, bytes: vmlinux },
            None => Self { file_name: "vmlinuz", version, bytes },
        })
    }
}

/// What is used of a bzImage's setup header; offsets in bytes from the start of the file.
struct SetupHeader {
    payload: std::ops::Range<usize>,
    version_at: usize,
}

impl SetupHeader {
    fn of(bytes: &[u8]) -> Option<Self> {
        let word =
            |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let half =
            |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
        if bytes.get(0x202..0x206)? != b"HdrS" || half(0x206)? < PROTOCOL_WITH_PAYLOAD {
            return None;
        }
        // 0 means 4, for the sake of very old boot loaders.
        let sectors = match *bytes.get(0x1f1)? {
            0 => 4usize,
            sectors => sectors.into(),
        };
        let protected = sectors.checked_add(1)?.checked_mul(512)?;
        let start = protected.checked_add(usize::try_from(word(0x248)?).ok()?)?;
        let end = start.checked_add(usize::try_from(word(0x24c)?).ok()?)?;
        bytes.get(start..end)?;
        let version_at = usize::from(half(0x20e)?).checked_add(0x200)?;
        Some(Self { payload: start..end, version_at })
    }

    fn version(&self, bytes: &[u8]) -> Option<String> {
        first_word(bytes.get(self.version_at..)?)
    }

    /// The ELF kernel in the payload, if it can be unpacked and QEMU can start it.
    fn unpack(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let payload = bytes.get(self.payload.clone())?;
        let vmlinux = if payload.starts_with(&LZ4_LEGACY) {
            unpack_lz4(payload)?
        } else if Compression::of(payload).is_some() {
            unpack_stream(payload)?
        } else {
            payload.to_vec()
        };
        Elf::new(&vmlinux)?.has_pvh_note().then_some(vmlinux)
    }
}

/// gzip, xz and zstd payloads. All but gzip are followed by their unpacked length in four bytes.
fn unpack_stream(payload: &[u8]) -> Option<Vec<u8>> {
    let without_length = payload.split_last_chunk::<4>().map_or(payload, |(stream, _)| stream);
    let stream = if payload.starts_with(&[0x1f, 0x8b]) { payload } else { without_length };
    let mut vmlinux = Vec::new();
    decoder(stream).ok()?.take(MAX_VMLINUX as u64).read_to_end(&mut vmlinux).ok()?;
    (vmlinux.len() < MAX_VMLINUX).then_some(vmlinux)
}

/// The legacy LZ4 frame: magic, then blocks of a length and at most 8 MiB of unpacked data each.
///
/// Source: lz4 `doc/lz4_Frame_format.md`, "Legacy frame". What follows the last block is the unpacked length in four bytes.
fn unpack_lz4(payload: &[u8]) -> Option<Vec<u8>> {
    let (mut blocks, _) = payload.get(LZ4_LEGACY.len()..)?.split_last_chunk::<4>()?;
    let mut vmlinux = Vec::new();
    let mut block = vec![0; 8 << 20];
    while !blocks.is_empty() {
        let (length, rest) = blocks.split_first_chunk::<4>()?;
        let (compressed, rest) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let unpacked = lz4_flex::block::decompress_into(compressed, &mut block).ok()?;
        if vmlinux.len().checked_add(unpacked)? > MAX_VMLINUX {
            return None;
        }
        vmlinux.extend_from_slice(block.get(..unpacked)?);
        blocks = rest;
    }
    Some(vmlinux)
}

/// The release in an ELF kernel's banner, `Linux version <release> (…`.
fn banner_version(vmlinux: &[u8]) -> Option<String> {
    let marker = b"Linux version ";
    let mut rest = vmlinux;
    loop {
        let at = rest.windows(marker.len()).position(|window| window == marker)?;
        rest = rest.get(at.checked_add(marker.len())?..)?;
        // A format string with the same beginning holds `%s` here.
        if rest.first().is_some_and(u8::is_ascii_digit) {
            return first_word(rest);
        }
    }
}

/// Text up to the first blank or NUL, if it is short and could be a directory's name.
fn first_word(bytes: &[u8]) -> Option<String> {
    let word = bytes.split(|byte| matches!(byte, b' ' | b'\n' | 0)).next()?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_+~".contains(byte);
    let is_release =
        word.first()?.is_ascii_digit() && word.len() <= 64 && word.iter().all(is_plain);
    is_release.then(|| String::from_utf8_lossy(word).into_owned())
}

const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Boot protocol 2.08, Linux 2.6.26.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x208;
/// An unpacked kernel is 50 to 100 MiB.
const MAX_VMLINUX: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_one_short_plain_word() {
        assert_eq!(first_word(b"6.1.0-9-amd64 (x@y) #1"), Some("6.1.0-9-amd64".to_owned()));
        assert_eq!(first_word(b"../../etc\0"), None);
        assert_eq!(first_word(b"6/../..\0"), None);
        assert_eq!(first_word(&[b'6'; 100]), None);
    }

    #[test]
    fn the_banner_is_told_from_its_format_string() {
        let bytes = b"xLinux version %s (%s)\0 Linux version 6.6.1+ (me) #1\0";

        assert_eq!(banner_version(bytes), Some("6.6.1+".to_owned()));
        assert_eq!(banner_version(b"Linux version "), None);
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert_eq!(
            BootImage::from_file(vec![0; 10_000]).expect_err("zeros"),
            BootImageError::NotAKernel
        );
        let program = std::fs::read("/proc/self/exe").expect("reads");
        assert_eq!(BootImage::from_file(program).expect_err("a program"), BootImageError::NoPvh);
    }

    #[test]
    fn lz4_blocks_that_lie_about_their_length_are_refused() {
        let lying = [&LZ4_LEGACY[..], &1000u32.to_le_bytes(), b"short", &[0; 4]].concat();

        assert_eq!(unpack_lz4(&lying), None);
    }
}
