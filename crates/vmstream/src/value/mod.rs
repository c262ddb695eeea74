//! Values: what all metadata and all device state are made of.
//!
//! ```text
//!   Value --encode--> canonical CBOR --decode--> the same Value, or the rule that the bytes break
//! ```
//!
//! The coding is a bijection: a value has one encoding, and bytes that are not it are refused. So two
//! values are equal exactly if their bytes are, and a digest of bytes identifies a value.

mod decode;
mod encode;
mod map;

pub use decode::{decode, decode_prefix};
pub use encode::encode;
pub(crate) use encode::{push_head, push_int, push_text};
pub use map::Map;
pub(crate) use map::order as key_order;

/// A value of metadata or state.
///
/// Source: RFC 8949, the part of its data model that needs no tags and no floats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Nothing; only where a schema or a message says that it may stand.
    Null,
    /// Yes or no.
    Bool(bool),
    /// From −2^64 to 2^64−1; the encoder refuses none, see [`Value::fits`].
    Int(i128),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Self>),
    /// Values by name.
    Map(Map),
}

/// The least integer that CBOR writes without a tag.
pub(crate) const INT_MIN: i128 = -(1 << 64);
/// The greatest integer that CBOR writes without a tag.
pub(crate) const INT_MAX: i128 = (1 << 64) - 1;

impl Value {
    /// An empty map.
    #[must_use]
    pub const fn map() -> Self {
        Self::Map(Map::new())
    }

    /// The integer, if it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<i128> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The integer, if it is one from 0 to 2^64−1.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_int().and_then(|int| u64::try_from(int).ok())
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The bytes, if it is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(bool) = self { Some(*bool) } else { None }
    }

    /// The list, if it is one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// The map, if it is one.
    #[must_use]
    pub const fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The map, if it is one; otherwise the value.
    ///
    /// # Errors
    ///
    /// The value, untouched.
    pub fn into_map(self) -> Result<Map, Self> {
        if let Self::Map(map) = self { Ok(map) } else { Err(self) }
    }

    /// The list, if it is one; otherwise the value.
    ///
    /// # Errors
    ///
    /// The value, untouched.
    pub fn into_list(self) -> Result<Vec<Self>, Self> {
        if let Self::List(items) = self { Ok(items) } else { Err(self) }
    }

    /// The text, if it is one; otherwise the value.
    ///
    /// # Errors
    ///
    /// The value, untouched.
    pub fn into_text(self) -> Result<String, Self> {
        if let Self::Text(text) = self { Ok(text) } else { Err(self) }
    }

    /// The bytes, if it is bytes; otherwise the value.
    ///
    /// # Errors
    ///
    /// The value, untouched.
    pub fn into_bytes(self) -> Result<Vec<u8>, Self> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(self) }
    }

    /// What kind of value it is, for messages.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "an integer",
            Self::Bytes(_) => "bytes",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Whether the value can be written: its integers in range, no deeper and no larger than a payload may be.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.fits_below(0)
    }

    /// Whether the value can be written inside of so many lists and maps that hold nothing else.
    #[must_use]
    pub fn fits_below(&self, levels: usize) -> bool {
        let left = |most: usize| most.checked_sub(levels);
        let (depth, values) = (left(crate::limits::DEPTH), left(crate::limits::VALUES));
        depth.zip(values).is_some_and(|(depth, mut values)| self.fits_within(depth, &mut values))
    }

    fn fits_within(&self, depth: usize, left: &mut usize) -> bool {
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        match self {
            Self::Null | Self::Bool(_) | Self::Bytes(_) | Self::Text(_) => true,
            Self::Int(int) => (INT_MIN..=INT_MAX).contains(int),
            Self::List(items) => depth
                .checked_sub(1)
                .is_some_and(|depth| items.iter().all(|item| item.fits_within(depth, left))),
            Self::Map(map) => depth.checked_sub(1).is_some_and(|depth| {
                map.len() <= crate::limits::KEYS
                    && map.iter().all(|(_, item)| item.fits_within(depth, left))
            }),
        }
    }

    /// How many values there are, this one and those inside of it counted.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::List(items) => items.iter().fold(1, |sum, item| sum + item.count()),
            Self::Map(map) => map.iter().fold(1, |sum, (_, item)| sum + item.count()),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Bytes(_) | Self::Text(_) => 1,
        }
    }

    /// The value at `path` below this one: keys and list positions, joined by dots.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').filter(|part| !part.is_empty()).try_fold(self, |value, part| match value {
            Self::Map(map) => map.get(part),
            Self::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Bytes(_) | Self::Text(_) => None,
        })
    }
}

macro_rules! from_integers {
    ($($int:ty)+) => {
        $(impl From<$int> for Value {
            fn from(int: $int) -> Self {
                Self::Int(i128::from(int))
            }
        })+
    };
}
from_integers!(u8 u16 u32 u64 i8 i16 i32 i64);

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<Self>> for Value {
    fn from(items: Vec<Self>) -> Self {
        Self::List(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}
