//! From the tree back to bytes.

use crate::tree::{Field, Framing, Kind, List, Structure, Value};

/// A value that does not fit its place in QEMU's stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A number is too large, or negative where it must not be.
    #[error("{field} does not fit in {bytes} bytes")]
    Range {
        /// Which field.
        field: Box<str>,
        /// The width of its place.
        bytes: usize,
    },
    /// A value is of another kind than its field.
    #[error("{field} holds a value of another kind than {kind:?}")]
    Kind {
        /// Which field.
        field: Box<str>,
        /// What its field holds.
        kind: Kind,
    },
    /// A name is longer than its length byte can say, or a count than its own place.
    #[error("{name} is too long for its length in the stream")]
    Length {
        /// The beginning of what is too long.
        name: Box<str>,
    },
}

/// The bytes of a section's body.
///
/// # Errors
///
/// When a value does not fit its place. What the reader made always fits.
pub fn encode(structure: &Structure) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    put_structure(structure, &mut out)?;
    Ok(out)
}

fn put_structure(structure: &Structure, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let Structure { name: _, version: _, fields, subsections } = structure;
    for field in fields {
        put(field, &field.value, out)?;
    }
    for sub in subsections {
        out.push(crate::element::SUBSECTION);
        put_counted(&sub.name, out)?;
        out.extend_from_slice(&sub.version.to_be_bytes());
        put_structure(sub, out)?;
    }
    Ok(())
}

/// A string with its length in one byte before it.
pub(crate) fn put_counted(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length = u8::try_from(text.len()).map_err(|_| EncodeError::Length {
        name: text.chars().take(40).collect::<String>().into(),
    })?;
    out.push(length);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put(field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match value {
        Value::Structure(structure) => put_structure(structure, out),
        Value::List(list) => put_list(field, list, out),
        Value::Bytes(bytes) | Value::Opaque(bytes) => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Value::Null => {
            out.push(NULL);
            Ok(())
        }
        Value::Bool(bit) => put_number(field, i128::from(*bit), out),
        Value::Unsigned(number) => put_number(field, i128::from(*number), out),
        Value::Signed(number) => put_number(field, i128::from(*number), out),
    }
}

fn put_list(field: &Field, list: &List, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let List { items, zeros, zero_bytes, framing } = list;
    if *framing == Framing::Counted {
        let count = u32::try_from(items.len())
            .map_err(|_| EncodeError::Length { name: field.name.as_ref().into() })?;
        out.extend_from_slice(&count.to_be_bytes());
    }
    for item in items {
        if *framing != Framing::Bare {
            out.push(1);
        }
        put(field, item, out)?;
    }
    if *framing != Framing::Bare {
        out.push(0);
    }
    let zeros = u64::from(*zeros).saturating_mul(u64::from(*zero_bytes));
    let length = out.len().saturating_add(usize::try_from(zeros).unwrap_or(usize::MAX));
    out.resize(length, 0);
    Ok(())
}

fn put_number(field: &Field, number: i128, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let name = || field.name.as_ref().into();
    let Some(bytes) = field.kind.width() else {
        return Err(EncodeError::Kind { field: name(), kind: field.kind });
    };
    let signed = matches!(field.kind, Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64);
    let bits = u32::try_from(bytes.saturating_mul(8)).unwrap_or(64);
    let (low, high) = if signed {
        let half = 1i128 << bits.saturating_sub(1);
        (-half, half - 1)
    } else {
        (0, (1i128 << bits) - 1)
    };
    if !(low..=high).contains(&number) {
        return Err(EncodeError::Range { field: name(), bytes });
    }
    let little = number.to_le_bytes();
    let little = little.get(..bytes).unwrap_or_default();
    if matches!(field.kind, Kind::U16Le | Kind::U32Le | Kind::U64Le) {
        out.extend_from_slice(little);
    } else {
        out.extend(little.iter().rev());
    }
    Ok(())
}

/// What stands for a null pointer.
///
/// Source: QEMU, `migration/vmstate-types.c`, `VMS_NULLPTR_MARKER`.
pub(crate) const NULL: u8 = b'0';
