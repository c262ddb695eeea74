//! Schemas as documents of JSON Schema.

use super::{Field, Int, Schema, Struct, Type};
use crate::value::{Map, Value};

/// The meta-schema that our documents keep to.
pub(super) const META: &str = "https://json-schema.org/draft/2020-12/schema";
/// What the projection of bytes looks like.
const HEX: &str = "^([0-9a-f]{2})*$";

impl Schema {
    /// The JSON Schema of the records' JSON projection, as a value.
    #[must_use]
    pub fn document(&self) -> Value {
        let map = struct_document(&self.root)
            .with("$schema", META)
            .with("title", self.name.as_str())
            .with("x-version", self.version);
        let map = text(map, "description", &self.description);
        Value::Map(text(map, "x-source", &self.source))
    }
}

fn text(map: Map, key: &str, text: &str) -> Map {
    if text.is_empty() { map } else { map.with(key, text) }
}

fn texts<'a>(items: impl Iterator<Item = &'a String>) -> Vec<Value> {
    items.map(|item| Value::from(item.as_str())).collect()
}

fn struct_document(fields: &Struct) -> Map {
    let properties: Map = fields
        .fields()
        .iter()
        .map(|field| (field.name.clone(), Value::Map(field_document(field))))
        .collect();
    let required = fields.fields().iter().filter(|field| field.default.is_none());
    Map::new()
        .with("type", "object")
        .with("x-type", "struct")
        .with("properties", properties)
        .with("required", texts(required.map(|field| &field.name)))
        .with("additionalProperties", false)
}

fn field_document(field: &Field) -> Map {
    let mut map = type_document(&field.kind)
        .with("x-since", field.since)
        .with("x-critical", field.critical.word());
    map = text(map, "description", &field.description);
    map = text(map, "x-unit", &field.unit);
    map = text(map, "x-source", &field.source);
    if let Some(default) = &field.default {
        map.insert("default", literal(default));
    }
    if !field.aliases.is_empty() {
        map.insert("x-alias", texts(field.aliases.iter()));
    }
    map
}

fn type_document(kind: &Type) -> Map {
    let typed = |json: &str, word: &str| Map::new().with("type", json).with("x-type", word);
    match kind {
        Type::Bool => typed("boolean", "bool"),
        Type::Int(int) => int_document(int),
        Type::Bytes(min, max) => typed("string", "bytes")
            .with("contentEncoding", "base16")
            .with("pattern", HEX)
            .with("minLength", min.saturating_mul(2))
            .with("maxLength", max.saturating_mul(2)),
        Type::Text(max) => typed("string", "text").with("maxLength", *max),
        Type::Enum(symbols) => typed("string", "enum").with("enum", texts(symbols.iter())),
        Type::List(item, min, max) => typed("array", "list")
            .with("items", type_document(item))
            .with("minItems", *min)
            .with("maxItems", *max),
        Type::Struct(fields) => struct_document(fields),
        Type::Optional(inner) => {
            let either =
                vec![Value::Map(type_document(inner)), Value::Map(Map::new().with("type", "null"))];
            Map::new().with("x-type", "optional").with("anyOf", either)
        }
    }
}

fn int_document(int: &Int) -> Map {
    let map = Map::new()
        .with("type", "integer")
        .with("x-type", int.word())
        .with("minimum", Value::Int(int.min))
        .with("maximum", Value::Int(int.max));
    if int.flags.is_empty() {
        return map;
    }
    let flags: Map =
        int.flags.iter().map(|(name, bit)| (name.clone(), Value::from(*bit))).collect();
    map.with("x-bits", flags)
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
