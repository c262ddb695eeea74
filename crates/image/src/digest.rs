//! SHA-256 in lower-case hex, the name by which images and kernels go.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// Hex SHA-256 of `bytes`.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hex SHA-256 of everything that `reader` still has, and how many bytes that was.
pub(crate) fn of_reader(reader: &mut impl Read) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0u64;
    loop {
        let got = match reader.read(&mut buffer) {
            Ok(0) => return Ok((hex(&hasher.finalize()), total)),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..got).unwrap_or_default());
        total = total.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
    }
}

/// Lower-case hex of a finished digest.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_empty_digest_is_the_known_one_both_ways() {
        assert_eq!(of_bytes(b""), EMPTY);
        assert_eq!(of_reader(&mut io::empty()).expect("empty reads"), (EMPTY.to_owned(), 0));
    }

    #[test]
    fn a_reader_and_its_bytes_digest_alike() {
        let bytes = vec![7u8; 300_000];

        let (text, total) = of_reader(&mut bytes.as_slice()).expect("slices read");

        assert_eq!(text, of_bytes(&bytes));
        assert_eq!(total, 300_000);
    }
}
