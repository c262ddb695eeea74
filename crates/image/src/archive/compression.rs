//! Which compressor made a stream, and the stream inside.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use super::zstd::ZstdReader;

/// A compressor, told by the first bytes of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// RFC 1952.
    Gzip,
    /// The xz container.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Recognises the magic bytes of a compressed stream.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let starts = |magic: &[u8]| head.starts_with(magic);
        if starts(&[0x1f, 0x8b]) {
            Some(Self::Gzip)
        } else if starts(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else if starts(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// The bytes inside `input`, decompressed if its first bytes say that it is compressed, as they are otherwise.
///
/// Memory is bounded whatever the input claims: 256 MiB for xz, 128 MiB for zstd.
///
/// # Errors
///
/// What reading the first bytes ends in, and no memory for xz.
pub fn decoder<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let (input, compression) = opened(input)?;
    decompressed(input, compression)
}

/// As [`decoder`], for what comes from strangers: gzip, zstd and plain, all of them decoded by safe Rust. OCI knows no other
/// layers.
pub(crate) fn decoder_of_layers<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let (input, compression) = opened(input)?;
    if compression == Some(Compression::Xz) {
        let what = "compressed by xz; want gzip, zstd or none";
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    decompressed(input, compression)
}

/// The input, none of it consumed, and what its first bytes say.
fn opened<R: Read>(input: R) -> io::Result<(BufReader<R>, Option<Compression>)> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let compression = Compression::of(input.fill_buf()?);
    Ok((input, compression))
}

fn decompressed<'a>(
    input: BufReader<impl Read + 'a>,
    compression: Option<Compression>,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        None => Box::new(input),
        Some(Compression::Gzip) => {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(input)))
        }
        Some(Compression::Xz) => {
            let stream =
                Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(io::Error::from)?;
            Box::new(BufReader::with_capacity(BUFFER, XzDecoder::new_stream(input, stream)))
        }
        Some(Compression::Zstd) => {
            Box::new(BufReader::with_capacity(BUFFER, ZstdReader::new(input)))
        }
    })
}

/// Bytes that are read, and decompressed, at once.
const BUFFER: usize = 256 << 10;
const XZ_MEMORY: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// What the real compressor makes of `bytes`.
    fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("plain");
        std::fs::write(&path, bytes).expect("writes");
        let output = Command::new(program).arg("-c").arg(&path).stdin(Stdio::null()).output();
        output.expect("the compressor runs").stdout
    }

    #[test]
    fn each_compressor_s_streams_decode_even_when_several_are_joined() {
        let bytes: Vec<u8> = (0..1_000_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();

        for program in ["gzip", "xz", "zstd", "cat"] {
            let mut input =
                if program == "cat" { bytes.clone() } else { compressed(program, &bytes) };
            input.extend_from_within(..);
            let mut output = Vec::new();
            decoder(input.as_slice()).expect("opens").read_to_end(&mut output).expect("decodes");

            assert!(output == [bytes.as_slice(), bytes.as_slice()].concat(), "{program}");
        }
    }

    #[test]
    fn a_cut_stream_is_an_error_and_not_a_short_file() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();

        for program in ["gzip", "xz", "zstd"] {
            let mut input = compressed(program, &bytes);
            input.truncate(input.len() / 2);
            let outcome = decoder(input.as_slice()).expect("opens").read_to_end(&mut Vec::new());

            assert!(outcome.is_err(), "{program} decoded half a stream");
        }
    }
}
