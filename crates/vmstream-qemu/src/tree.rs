//! Device state as a tree whose leaves, in order, are the bytes of the stream.

use std::borrow::Cow;

/// A name: from the stream, or of a known layout.
pub type Name = Cow<'static, str>;

/// How one value stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, one byte.
    U8,
    /// Unsigned, two bytes, big-endian.
    U16,
    /// Unsigned, four bytes, big-endian.
    U32,
    /// Unsigned, eight bytes, big-endian.
    U64,
    /// Signed, one byte.
    I8,
    /// Signed, two bytes, big-endian.
    I16,
    /// Signed, four bytes, big-endian.
    I32,
    /// Signed, eight bytes, big-endian.
    I64,
    /// Unsigned, two bytes, little-endian.
    U16Le,
    /// Unsigned, four bytes, little-endian.
    U32Le,
    /// Unsigned, eight bytes, little-endian.
    U64Le,
    /// Bytes as they are.
    Bytes,
    /// Fields and subsections.
    Structure,
    /// Bytes of unknown meaning.
    Opaque,
}

impl Kind {
    /// Bytes in the stream, for kinds that have a constant size.
    #[must_use]
    pub fn width(self) -> Option<usize> {
        match self {
            Self::Bool | Self::U8 | Self::I8 => Some(1),
            Self::U16 | Self::I16 | Self::U16Le => Some(2),
            Self::U32 | Self::I32 | Self::U32Le => Some(4),
            Self::U64 | Self::I64 | Self::U64Le => Some(8),
            Self::Bytes | Self::Structure | Self::Opaque => None,
        }
    }

    /// The value whose bytes these are; their number is the kind's width.
    pub(crate) fn decode(self, bytes: &[u8]) -> Value {
        let big = || bytes.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let little = || bytes.iter().rev().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        match self {
            Self::Bool => match big() {
                bit @ (0 | 1) => Value::Bool(bit == 1),
                other => Value::Unsigned(other),
            },
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Value::Unsigned(big()),
            Self::U16Le | Self::U32Le | Self::U64Le => Value::Unsigned(little()),
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => {
                let spare = 64u32.saturating_sub(u32::try_from(bytes.len() * 8).unwrap_or(64));
                Value::Signed((big() << spare).cast_signed() >> spare)
            }
            Self::Bytes | Self::Structure => Value::Bytes(bytes.into()),
            Self::Opaque => Value::Opaque(bytes.into()),
        }
    }
}

/// A value of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Unsigned(u64),
    /// A number that may be negative.
    Signed(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Bytes of unknown meaning, kept.
    Opaque(Vec<u8>),
    /// A pointer that was null where others of its list were not.
    Null,
    /// Fields and subsections.
    Structure(Structure),
    /// Values of one kind.
    List(List),
}

/// What stands around the items of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: how many there are is known elsewhere.
    Bare,
    /// A byte 1 before each, a byte 0 after the last (`qtailq`, `qlist`).
    Marked,
    /// The number first, four bytes; then as [`Framing::Marked`] (`gtree`).
    Counted,
}

/// Values of one kind, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The items, without those at the end that are all zero where `zeros` counts them.
    pub items: Vec<Value>,
    /// How many more items follow whose bytes are all zero.
    pub zeros: u32,
    /// Bytes of each of these.
    pub zero_bytes: u32,
    /// What stands around the items.
    pub framing: Framing,
}

impl List {
    /// A list of just these items.
    #[must_use]
    pub fn bare(items: Vec<Value>) -> Self {
        Self { items, zeros: 0, zero_bytes: 0, framing: Framing::Bare }
    }
}

/// Fields, then subsections: what one of QEMU's descriptions is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    /// The description's name, empty where the stream says none.
    pub name: Name,
    /// The description's version.
    pub version: u32,
    /// The fields, in stream order.
    pub fields: Vec<Field>,
    /// The subsections, in stream order.
    pub subsections: Vec<Structure>,
}

impl Structure {
    /// The first field or subsection field of that name at this level.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The subsection of that name; the part before the last `/` may be left out.
    #[must_use]
    pub fn subsection(&self, name: &str) -> Option<&Self> {
        let short = |full: &str| full.rsplit('/').next() == Some(name);
        self.subsections.iter().find(|sub| sub.name == name || short(&sub.name))
    }
}

/// One field of a [`Structure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Name,
    /// QEMU's name of its type, or ours where QEMU has none.
    pub type_name: Name,
    /// How the value, or each item of a list, stands in the stream.
    pub kind: Kind,
    /// Where it stood: bytes from the start of the stream. 0 for a field that was never in one.
    pub offset: u64,
    /// Bytes in the stream.
    pub length: u64,
    /// The value.
    pub value: Value,
}
