//! Values into bytes.

use super::Value;

/// The canonical encoding of a value.
///
/// Integers outside of −2^64…2^64−1 are cut to the nearest that fits; [`Value::fits`] says whether there are any.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, value);
    out
}

fn push(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Int(int) => push_int(out, *int),
        Value::Bytes(bytes) => {
            push_head(out, 2, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
        Value::Text(text) => push_text(out, text),
        Value::List(items) => {
            push_head(out, 4, length(items.len()));
            items.iter().for_each(|item| push(out, item));
        }
        Value::Map(map) => {
            push_head(out, 5, length(map.len()));
            for (key, item) in map.iter() {
                push_text(out, key);
                push(out, item);
            }
        }
    }
}

/// Appends a text, or a key.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    push_head(out, 3, length(text.len()));
    out.extend_from_slice(text.as_bytes());
}

/// Appends an integer.
pub(crate) fn push_int(out: &mut Vec<u8>, int: i128) {
    let (major, magnitude) = if int < 0 { (1, !int) } else { (0, int) };
    push_head(out, major, u64::try_from(magnitude).unwrap_or(u64::MAX));
}

/// Appends the shortest head of a major type and its argument.
pub(crate) fn push_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    if let Ok(small) = u8::try_from(argument) {
        if small < 24 {
            out.push(major | small);
        } else {
            out.extend_from_slice(&[major | 24, small]);
        }
    } else if let Ok(short) = u16::try_from(argument) {
        out.push(major | 25);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(word) = u32::try_from(argument) {
        out.push(major | 26);
        out.extend_from_slice(&word.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&argument.to_be_bytes());
    }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
