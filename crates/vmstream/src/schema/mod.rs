//! Schemas: what a kind of record may hold, said in the stream itself.
//!
//! ```text
//!   Schema --document--> a JSON Schema 2020-12, as a value --parse--> the same Schema, or S-1
//! ```
//!
//! A schema is the *union* of all that a record of its kind may hold. What is present is a fact of each record.

mod check;
mod document;
mod encode;
mod parse;

pub(crate) use document::hex;
pub(crate) use parse::{unhex, unliteral_struct};

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::value::{Map, Value};

/// A kind of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The kind's name: `virtio.split-queue`, ….
    pub name: String,
    /// Counts changes of meaning. Records of other versions are other kinds of record.
    pub version: u32,
    /// What it describes.
    pub description: String,
    /// The document that its fields come from.
    pub source: String,
    /// Its fields.
    pub root: Struct,
}

impl Schema {
    /// SHA-256 of the canonical encoding of [`Schema::document`]: what identifies the schema.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.encoded().bytes).into()
    }

    /// A record with every absent field put in at its default, as the *writer's* schema declares it.
    #[must_use]
    pub fn complete(&self, state: &Map) -> Map {
        self.root.complete(state)
    }

    /// A record without the fields that are at their defaults: what is sent.
    #[must_use]
    pub fn strip(&self, state: &Map) -> Map {
        self.root.strip(state)
    }
}

/// A line for each schema, its digest, name and version, sorted: to be kept in a file that a test compares.
///
/// So every change of a format is seen by whoever reviews it.
#[must_use]
pub fn listing<'a>(schemas: impl IntoIterator<Item = &'a Schema>) -> String {
    let line =
        |schema: &Schema| format!("{} {} {}\n", schema.name, schema.version, hex(&schema.digest()));
    let mut lines: Vec<_> = schemas.into_iter().map(line).collect();
    lines.sort();
    lines.concat()
}

/// Fields by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struct {
    fields: Vec<Field>,
}

impl Struct {
    /// A struct of fields, put into canonical order.
    #[must_use]
    pub fn new(mut fields: Vec<Field>) -> Self {
        fields.sort_by(|left, right| crate::value::key_order(&left.name, &right.name));
        Self { fields }
    }

    /// The fields in canonical order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of a name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        let found =
            self.fields.binary_search_by(|field| crate::value::key_order(&field.name, name));
        found.ok().and_then(|index| self.fields.get(index))
    }

    fn complete(&self, state: &Map) -> Map {
        let value = |field: &Field| {
            let value = state.get(&field.name).or(field.default.as_ref())?;
            Some((field.name.clone(), field.kind.each_struct(value.clone(), &Self::complete_value)))
        };
        self.fields.iter().filter_map(value).collect()
    }

    fn complete_value(&self, state: Map) -> Map {
        self.complete(&state)
    }

    fn strip(&self, state: &Map) -> Map {
        let value = |(name, value): (&str, &Value)| {
            let field = self.field(name);
            // Most of a state is at its defaults: what is not sent is not copied.
            if field.is_some_and(|field| field.default.as_ref() == Some(value)) {
                return None;
            }
            let value = field.map_or_else(|| value.clone(), |field| field.kind.strip(value));
            let is_default = field.is_some_and(|field| field.default.as_ref() == Some(&value));
            (!is_default).then(|| (name.to_owned(), value))
        };
        state.iter().filter_map(value).collect()
    }
}

/// What a reader must do about a field that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criticality {
    /// Refuse the machine, whatever the field's value.
    Required,
    /// Refuse a record that has it.
    Critical,
    /// Drop it and count that.
    Ignorable,
}

impl Criticality {
    /// The word in a schema.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Critical => "critical",
            Self::Ignorable => "ignorable",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Required, Self::Critical, Self::Ignorable].into_iter().find(|c| c.word() == word)
    }
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Type,
    /// What it is.
    pub description: String,
    /// Its unit, if it has one.
    pub unit: String,
    /// The document it comes from, if that is not the schema's.
    pub source: String,
    /// The first edition of the schema that has it; 1 if it always was there.
    pub since: u32,
    /// What a reader must do that does not know it.
    pub critical: Criticality,
    /// The value that is not sent, and that an absent field has.
    pub default: Option<Value>,
    /// Names that it had before.
    pub aliases: Vec<String>,
}

impl Field {
    /// A critical field since edition 1, without default.
    #[must_use]
    pub fn new(name: &str, kind: Type) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            description: String::new(),
            unit: String::new(),
            source: String::new(),
            since: 1,
            critical: Criticality::Critical,
            default: None,
            aliases: Vec::new(),
        }
    }

    /// With a default.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// With another criticality.
    #[must_use]
    pub const fn critical(mut self, critical: Criticality) -> Self {
        self.critical = critical;
        self
    }
}

/// A type of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A truth value.
    Bool,
    /// An integer.
    Int(Int),
    /// Bytes; how many, both ends included.
    Bytes(u64, u64),
    /// Text of so many characters at most.
    Text(u64),
    /// One of these texts.
    Enum(Vec<String>),
    /// A list of so many items, both ends included.
    List(Box<Self>, u64, u64),
    /// A map with these fields.
    Struct(Struct),
    /// Null, or a value of the type.
    Optional(Box<Self>),
}

/// An integer of a width, in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Int {
    /// 8, 16, 32 or 64.
    pub bits: u8,
    /// Whether it can be negative.
    pub signed: bool,
    /// The least value.
    pub min: i128,
    /// The greatest value.
    pub max: i128,
    /// Names of bits, with their numbers. If there are any, no other bit may be set.
    pub flags: Vec<(String, u8)>,
}

impl Int {
    /// All values of a width: 8, 16, 32 or 64 bits.
    #[must_use]
    pub const fn new(bits: u8, signed: bool) -> Self {
        let (min, max) = Self::natural(bits, signed);
        Self { bits, signed, min, max, flags: Vec::new() }
    }

    const fn natural(bits: u8, signed: bool) -> (i128, i128) {
        let bits = if bits > 64 { 64 } else { bits };
        if signed { (-(1 << bits >> 1), (1 << bits >> 1) - 1) } else { (0, (1 << bits) - 1) }
    }

    /// The name of the width: `u16`.
    #[must_use]
    pub fn word(&self) -> String {
        self.spelled().into_owned()
    }

    fn spelled(&self) -> Cow<'static, str> {
        Cow::Borrowed(match (self.signed, self.bits) {
            (false, 8) => "u8",
            (false, 16) => "u16",
            (false, 32) => "u32",
            (false, 64) => "u64",
            (true, 8) => "i8",
            (true, 16) => "i16",
            (true, 32) => "i32",
            (true, 64) => "i64",
            (signed, bits) => return format!("{}{bits}", if signed { 'i' } else { 'u' }).into(),
        })
    }

    /// All bits that may be set.
    pub(crate) fn mask(&self) -> i128 {
        let bit = |(_, bit): &(String, u8)| 1_i128.checked_shl(u32::from(*bit)).unwrap_or(0);
        self.flags.iter().map(bit).fold(0, |sum, bit| sum | bit)
    }
}

impl Type {
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    #[must_use]
    pub const fn uint(bits: u8) -> Self {
        Self::Int(Int::new(bits, false))
    }

    /// A signed integer of 8, 16, 32 or 64 bits.
    #[must_use]
    pub const fn int(bits: u8) -> Self {
        Self::Int(Int::new(bits, true))
    }

    /// The word in a schema: `u16`, `list`, ….
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Bool => "bool".to_owned(),
            Self::Int(int) => int.word(),
            Self::Bytes(..) => "bytes".to_owned(),
            Self::Text(_) => "text".to_owned(),
            Self::Enum(_) => "enum".to_owned(),
            Self::List(..) => "list".to_owned(),
            Self::Struct(_) => "struct".to_owned(),
            Self::Optional(_) => "optional".to_owned(),
        }
    }

    /// A value without the fields of its structs that are at their defaults.
    fn strip(&self, value: &Value) -> Value {
        match (self, value) {
            (Self::Struct(fields), Value::Map(map)) => Value::Map(fields.strip(map)),
            (Self::List(item, ..), Value::List(items)) => {
                Value::List(items.iter().map(|value| item.strip(value)).collect())
            }
            (Self::Optional(inner), value) => inner.strip(value),
            (_, value) => value.clone(),
        }
    }

    /// Changes every struct that a value of this type directly holds.
    fn each_struct(&self, value: Value, change: &dyn Fn(&Struct, Map) -> Map) -> Value {
        match (self, value) {
            (Self::Struct(fields), Value::Map(map)) => Value::Map(change(fields, map)),
            (Self::List(item, ..), Value::List(items)) => {
                let each = |value| item.each_struct(value, change);
                Value::List(items.into_iter().map(each).collect())
            }
            (Self::Optional(inner), value) => inner.each_struct(value, change),
            (_, value) => value,
        }
    }
}
