//! File data as base64 within a line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::v1::Malformed;

/// Raw bytes in every chunk but the last.
pub const CHUNK: usize = 65_536;

/// Appends a whole `chunk` line, newline included, to `out`.
///
/// Written by hand, since base64 needs no JSON escaping and this is all of v1's bulk.
pub fn encode_chunk(raw: &[u8], offset: u64, out: &mut String) {
    out.push_str(r#"{"type":"chunk","data":""#);
    STANDARD.encode_string(raw, out);
    out.push_str(r#"","size":"#);
    out.push_str(&raw.len().to_string());
    out.push_str(r#","offset":"#);
    out.push_str(&offset.to_string());
    out.push_str("}\n");
}

/// Decodes a chunk's `data` into `out`, which is emptied first, and checks that it has the `size` the chunk says.
///
/// # Errors
///
/// [`Malformed`] if it is not base64, or not of that size, or larger than [`CHUNK`].
pub fn decode_data(data: &str, size: u64, out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.clear();
    if data.len() > CHUNK.div_ceil(3).saturating_mul(4) {
        return Err(Malformed::ChunkTooLong { size });
    }
    STANDARD.decode_vec(data, out).map_err(|_| Malformed::Base64)?;
    if out.len() > CHUNK {
        return Err(Malformed::ChunkTooLong { size });
    }
    if u64::try_from(out.len()) != Ok(size) {
        return Err(Malformed::ChunkSize { size, found: out.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Message;

    #[test]
    fn a_chunk_of_every_bound_reads_back() {
        for len in [0, 1, 2, 3, 65_535, 65_536] {
            let raw: Vec<u8> = (0..=250_u8).cycle().take(len).collect();
            let mut line = String::new();
            encode_chunk(&raw, 7, &mut line);

            let message = Message::parse(line.trim_end().as_bytes()).expect("our own line");
            let Message::Chunk { data, size, offset } = message else {
                panic!("not a chunk: {message:?}");
            };
            let mut back = Vec::new();
            decode_data(&data, size, &mut back).expect("our own data");
            assert_eq!((back, offset), (raw, 7));
        }
    }

    #[test]
    fn a_chunk_that_lies_about_its_size_is_refused() {
        let mut out = Vec::new();

        assert!(decode_data("QUJD", 4, &mut out).is_err());
        assert!(decode_data(&"A".repeat(87_388), 65_541, &mut out).is_err());
        assert!(decode_data("QUJ", 2, &mut out).is_err());
    }
}
