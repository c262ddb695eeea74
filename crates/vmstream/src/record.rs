//! Structs that are records.
//!
//! `#[derive(Record)]` makes of one struct its coding, its schema and its conversions:
//!
//! ```
//! use vmstream::Record;
//!
//! /// A timer that counts down.
//! #[derive(Clone, Debug, PartialEq, vmstream::record::Record)]
//! #[record(name = "toy.timer", version = 1, source = "the toy machine's manual, 3.2")]
//! struct TimerV1 {
//!     /// What it begins from.
//!     #[field(unit = "ns", required)]
//!     period: u64,
//!     /// Whether it runs.
//!     #[field(default = false)]
//!     armed: bool,
//!     /// Times that it ran out.
//!     #[field(since = 2, ignorable, default = 0, max = 1000)]
//!     fired: u32,
//! }
//!
//! let timer = TimerV1 { period: 5, armed: false, fired: 0 };
//! let state = timer.save();
//! assert_eq!(state.len(), 1, "fields at their defaults are not sent");
//! assert_eq!(TimerV1::load(state)?, timer);
//! # Ok::<(), vmstream::Broken>(())
//! ```
//!
//! A default is of its field's type:
//!
//! ```compile_fail,E0308
//! #[derive(vmstream::record::Record)]
//! struct Timer {
//!     #[field(default = "no")]
//!     armed: bool,
//! }
//! ```
//!
//! On the struct, in `#[record(…)]`: `name` (without one it can only be a part of others), `version`, `source`. On a field, in `#[field(…)]`:
//! `required`, `critical` (what it is if nothing is said) or `ignorable`; `default = …`, `since = …`, `unit = "…"`, `source = "…"`, `name = "…"`,
//! `alias = "…"` (any number); for integers `min = …`, `max = …`, `bits(name = 0, …)`; for text, bytes and lists `max_len = …`.
//! A documentation comment is the description. Enums without fields are symbols, in kebab-case.

use crate::broken::Broken;
use crate::finding::Finding;
use crate::resolve::{Applied, resolve};
use crate::rule::Rule;
use crate::schema::{Schema, Type};
use crate::value::{Map, Value};

pub use vmstream_derive::Record;

/// What has a type in schemas.
pub trait Shape: Sized {
    /// The type.
    fn shape() -> Type;

    /// The value, fields at their defaults left out.
    fn to_value(&self) -> Value;

    /// The thing that a value is.
    ///
    /// # Errors
    ///
    /// [`Rule::D1`], with the field's path.
    fn from_value(value: Value) -> Result<Self, Broken>;
}

/// A struct that is a kind of record.
pub trait Record: Shape {
    /// Its schema.
    fn schema() -> Schema;

    /// The record, as it is sent.
    #[must_use]
    fn save(&self) -> Map {
        self.to_value().into_map().unwrap_or_default()
    }

    /// The struct of a record in our own schema; absent fields have their defaults.
    ///
    /// # Errors
    ///
    /// [`Rule::D1`], with the field's path.
    fn load(state: Map) -> Result<Self, Broken> {
        Self::from_value(Value::Map(state))
    }

    /// The struct of a record in another's schema, and what was dropped and filled in.
    ///
    /// # Errors
    ///
    /// Every reason, as [`resolve`] and [`crate::resolve::Plan::apply`] give them.
    fn load_from(state: &Map, writer: &Schema) -> Result<(Self, Applied), Vec<Finding>> {
        let applied = resolve(writer, &Self::schema())?.apply(state)?;
        let loaded = Self::load(applied.state.clone());
        match loaded {
            Ok(record) => Ok((record, applied)),
            Err(broken) => Err(vec![Finding::broken(&broken, 0)]),
        }
    }
}

/// The fields of a struct that is being loaded: what the derive macro calls.
///
/// Not for use by hand.
#[doc(hidden)]
pub fn take<T: Shape>(map: &mut Map, name: &str, default: Option<T>) -> Result<T, Broken> {
    match (map.remove(name), default) {
        (Some(value), _) => T::from_value(value).map_err(|broken| broken.below(name)),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(misfit("missing").path(name)),
    }
}

fn misfit(found: &str) -> Broken {
    Broken::new(Rule::D1).found(found)
}

macro_rules! integers {
    ($($int:ty, $bits:literal, $signed:literal;)+) => {
        $(impl Shape for $int {
            fn shape() -> Type {
                if $signed { Type::int($bits) } else { Type::uint($bits) }
            }

            fn to_value(&self) -> Value {
                Value::from(*self)
            }

            fn from_value(value: Value) -> Result<Self, Broken> {
                let int = value.as_int().and_then(|int| Self::try_from(int).ok());
                int.ok_or_else(|| misfit(value.noun()))
            }
        })+
    };
}
integers! {
    u8, 8, false; u16, 16, false; u32, 32, false; u64, 64, false;
    i8, 8, true; i16, 16, true; i32, 32, true; i64, 64, true;
}

impl Shape for bool {
    fn shape() -> Type {
        Type::Bool
    }

    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        value.as_bool().ok_or_else(|| misfit(value.noun()))
    }
}

impl Shape for String {
    fn shape() -> Type {
        Type::Text(u64::from(u16::MAX))
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        value.into_text().map_err(|other| misfit(other.noun()))
    }
}

/// Bytes, as many as there are: `Vec<u8>` would be a list of integers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Shape for Bytes {
    fn shape() -> Type {
        Type::Bytes(0, crate::limits::METADATA)
    }

    fn to_value(&self) -> Value {
        Value::Bytes(self.0.clone())
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        value.into_bytes().map(Self).map_err(|other| misfit(other.noun()))
    }
}

impl<const N: usize> Shape for [u8; N] {
    fn shape() -> Type {
        let count = u64::try_from(N).unwrap_or(u64::MAX);
        Type::Bytes(count, count)
    }

    fn to_value(&self) -> Value {
        Value::Bytes(self.to_vec())
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let bytes = value.as_bytes().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| misfit(value.noun()))
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn shape() -> Type {
        Type::List(Box::new(T::shape()), 0, u64::from(u16::MAX))
    }

    fn to_value(&self) -> Value {
        Value::List(self.iter().map(Shape::to_value).collect())
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let items = value.into_list().map_err(|other| misfit(other.noun()))?;
        let each = |(index, item)| T::from_value(item).map_err(|broken| broken.below(index));
        items.into_iter().enumerate().map(each).collect()
    }
}

impl<T: Shape> Shape for Option<T> {
    fn shape() -> Type {
        Type::Optional(Box::new(T::shape()))
    }

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Shape::to_value)
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        if value == Value::Null { Ok(None) } else { T::from_value(value).map(Some) }
    }
}
