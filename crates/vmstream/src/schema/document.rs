//! Schemas as documents of JSON Schema.

use std::borrow::Cow;

use super::{Field, Int, Schema, Struct, Type};
use crate::value::{Value, key_order};

/// The meta-schema that our documents keep to.
pub(super) const META: &str = "https://json-schema.org/draft/2020-12/schema";
/// What the projection of bytes looks like.
const HEX: &str = "^([0-9a-f]{2})*$";

impl Schema {
    /// The JSON Schema of the records' JSON projection, as a value.
    #[must_use]
    pub fn document(&self) -> Value {
        value_of(entries(self))
    }
}

/// What stands behind a key: most documents are written and never held, so nothing is copied for it.
pub(super) enum Entry<'s> {
    Text(Cow<'s, str>),
    Texts(&'s [String]),
    Int(i128),
    False,
    /// Fields by name, each with its document.
    Properties(&'s Struct),
    /// The names of those without default.
    Required(&'s Struct),
    Type(&'s Type),
    /// The type, or null.
    OrNull(&'s Type),
    Flags(&'s [(String, u8)]),
    Literal(&'s Value),
}

/// The keys of one map of a document, in canonical order.
pub(super) type Entries<'s> = Vec<(&'static str, Entry<'s>)>;

/// The document of a whole schema.
pub(super) fn entries(schema: &Schema) -> Entries<'_> {
    let Schema { name, version, description, source, root } = schema;
    let mut all = Entries::with_capacity(10);
    of_struct(&mut all, root);
    all.extend([
        ("$schema", Entry::Text(META.into())),
        ("title", Entry::Text(name.into())),
        ("x-version", Entry::Int(i128::from(*version))),
    ]);
    text(&mut all, "description", description);
    text(&mut all, "x-source", source);
    ordered(all)
}

pub(super) fn field_entries(field: &Field) -> Entries<'_> {
    let Field { name: _, kind, description, unit, source, since, critical, default, aliases } =
        field;
    let mut all = Entries::with_capacity(13);
    of_type(&mut all, kind);
    all.extend([
        ("x-since", Entry::Int(i128::from(*since))),
        ("x-critical", Entry::Text(critical.word().into())),
    ]);
    text(&mut all, "description", description);
    text(&mut all, "x-unit", unit);
    text(&mut all, "x-source", source);
    all.extend(default.as_ref().map(|default| ("default", Entry::Literal(default))));
    if !aliases.is_empty() {
        all.push(("x-alias", Entry::Texts(aliases)));
    }
    ordered(all)
}

pub(super) fn type_entries(kind: &Type) -> Entries<'_> {
    let mut all = Entries::with_capacity(6);
    of_type(&mut all, kind);
    ordered(all)
}

fn ordered(mut all: Entries<'_>) -> Entries<'_> {
    all.sort_unstable_by(|(left, _), (right, _)| key_order(left, right));
    all
}

fn text<'s>(all: &mut Entries<'s>, key: &'static str, text: &'s str) {
    if !text.is_empty() {
        all.push((key, Entry::Text(text.into())));
    }
}

fn of_struct<'s>(all: &mut Entries<'s>, fields: &'s Struct) {
    typed(all, "object", "struct".into());
    all.extend([
        ("properties", Entry::Properties(fields)),
        ("required", Entry::Required(fields)),
        ("additionalProperties", Entry::False),
    ]);
}

fn typed<'s>(all: &mut Entries<'s>, json: &'static str, word: Cow<'s, str>) {
    all.extend([("type", Entry::Text(json.into())), ("x-type", Entry::Text(word))]);
}

fn of_type<'s>(all: &mut Entries<'s>, kind: &'s Type) {
    let count = |count: &u64| Entry::Int(i128::from(*count));
    match kind {
        Type::Bool => typed(all, "boolean", "bool".into()),
        Type::Int(int) => of_int(all, int),
        Type::Bytes(min, max) => {
            typed(all, "string", "bytes".into());
            all.extend([
                ("contentEncoding", Entry::Text("base16".into())),
                ("pattern", Entry::Text(HEX.into())),
                ("minLength", count(&min.saturating_mul(2))),
                ("maxLength", count(&max.saturating_mul(2))),
            ]);
        }
        Type::Text(max) => {
            typed(all, "string", "text".into());
            all.push(("maxLength", count(max)));
        }
        Type::Enum(symbols) => {
            typed(all, "string", "enum".into());
            all.push(("enum", Entry::Texts(symbols)));
        }
        Type::List(item, min, max) => {
            typed(all, "array", "list".into());
            let counts = [("minItems", count(min)), ("maxItems", count(max))];
            all.extend([("items", Entry::Type(item))].into_iter().chain(counts));
        }
        Type::Struct(fields) => of_struct(all, fields),
        Type::Optional(inner) => all
            .extend([("x-type", Entry::Text("optional".into())), ("anyOf", Entry::OrNull(inner))]),
    }
}

fn of_int<'s>(all: &mut Entries<'s>, int: &'s Int) {
    typed(all, "integer", int.spelled());
    all.extend([("minimum", Entry::Int(int.min)), ("maximum", Entry::Int(int.max))]);
    if !int.flags.is_empty() {
        all.push(("x-bits", Entry::Flags(&int.flags)));
    }
}

/// The document of null.
pub(super) fn null_entries() -> Entries<'static> {
    vec![("type", Entry::Text("null".into()))]
}

fn value_of(entries: Entries<'_>) -> Value {
    let pair = |(key, entry): (&str, Entry<'_>)| (key.to_owned(), entry.into_value());
    Value::Map(entries.into_iter().map(pair).collect())
}

impl Entry<'_> {
    fn into_value(self) -> Value {
        let texts = |texts: &mut dyn Iterator<Item = &String>| {
            Value::List(texts.map(|each| Value::from(each.as_str())).collect())
        };
        match self {
            Self::Text(text) => Value::Text(text.into_owned()),
            Self::Texts(all) => texts(&mut all.iter()),
            Self::Int(int) => Value::Int(int),
            Self::False => Value::Bool(false),
            Self::Properties(fields) => {
                let field = |field: &Field| (field.name.clone(), value_of(field_entries(field)));
                Value::Map(fields.fields().iter().map(field).collect())
            }
            Self::Required(fields) => texts(&mut required(fields)),
            Self::Type(kind) => value_of(type_entries(kind)),
            Self::OrNull(kind) => {
                Value::List(vec![value_of(type_entries(kind)), value_of(null_entries())])
            }
            Self::Flags(flags) => bits(flags),
            Self::Literal(value) => literal(value),
        }
    }
}

/// Flags by name, each with its bit.
pub(super) fn bits(flags: &[(String, u8)]) -> Value {
    Value::Map(flags.iter().map(|(name, bit)| (name.clone(), Value::from(*bit))).collect())
}

/// The names of fields without default.
pub(super) fn required(fields: &Struct) -> impl Iterator<Item = &String> {
    fields.fields().iter().filter(|field| field.default.is_none()).map(|field| &field.name)
}

/// A value as the JSON projection has it: bytes as lower-case hexadecimal text.
pub(crate) fn literal(value: &Value) -> Value {
    match value {
        Value::Bytes(bytes) => Value::Text(hex(bytes)),
        Value::List(items) => Value::List(items.iter().map(literal).collect()),
        Value::Map(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.to_owned(), literal(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) => value.clone(),
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
