//! Documents back into schemas, and nothing that we would not have written ourselves.

use super::{Criticality, Field, Int, Schema, Struct, Type};
use crate::broken::Broken;
use crate::rule::Rule;
use crate::value::{Map, Value, encode};

impl Schema {
    /// Reads a document in the dialect.
    ///
    /// What was understood is written again and must be the document: so nothing in it is passed over.
    ///
    /// # Errors
    ///
    /// [`Broken`] by a rule `S-…`, with the path in the document.
    pub fn parse(document: &Value) -> Result<Self, Broken> {
        let map = document.as_map().ok_or_else(|| dialect("", "no map"))?;
        let schema = Self {
            name: text(map, "title")?.to_owned(),
            version: narrow(map, "x-version")?,
            description: optional_text(map, "description"),
            source: optional_text(map, "x-source"),
            root: struct_of(map)?,
        };
        // Equal bytes are equal values, and are made without the values. Which one differs is asked only if any does.
        if schema.encoded().bytes != encode(document) {
            let path = difference(document, &schema.document()).unwrap_or_default();
            return Err(dialect(&path, "not in the dialect"));
        }
        schema.check()?;
        Ok(schema)
    }
}

fn dialect(path: &str, found: &str) -> Broken {
    Broken::new(Rule::S1).path(path).found(found)
}

fn text<'a>(map: &'a Map, key: &str) -> Result<&'a str, Broken> {
    map.get(key).and_then(Value::as_text).ok_or_else(|| dialect(key, "no text"))
}

fn optional_text(map: &Map, key: &str) -> String {
    map.get(key).and_then(Value::as_text).unwrap_or_default().to_owned()
}

fn uint(map: &Map, key: &str) -> Result<u64, Broken> {
    map.get(key).and_then(Value::as_u64).ok_or_else(|| dialect(key, "no integer"))
}

fn narrow(map: &Map, key: &str) -> Result<u32, Broken> {
    u32::try_from(uint(map, key)?).map_err(|_| dialect(key, "over 32 bits"))
}

fn int(map: &Map, key: &str) -> Result<i128, Broken> {
    map.get(key).and_then(Value::as_int).ok_or_else(|| dialect(key, "no integer"))
}

fn texts(map: &Map, key: &str) -> Result<Vec<String>, Broken> {
    let items = map.get(key).and_then(Value::as_list).ok_or_else(|| dialect(key, "no list"))?;
    let texts = items.iter().map(|item| item.as_text().map(str::to_owned)).collect();
    Option::ok_or_else(texts, || dialect(key, "no list of texts"))
}

fn inner<'a>(map: &'a Map, key: &str) -> Result<&'a Map, Broken> {
    map.get(key).and_then(Value::as_map).ok_or_else(|| dialect(key, "no map"))
}

fn struct_of(map: &Map) -> Result<Struct, Broken> {
    let field = |(name, value): (&str, &Value)| {
        let below = |broken: Broken| broken.below(name).below("properties");
        let map = value.as_map().ok_or_else(|| below(dialect("", "no map")))?;
        field_of(name, map).map_err(below)
    };
    let fields = inner(map, "properties")?.iter().map(field).collect::<Result<_, _>>()?;
    Ok(Struct::new(fields))
}

fn field_of(name: &str, map: &Map) -> Result<Field, Broken> {
    let kind = type_of(map)?;
    let default = map.get("default").map(|default| {
        unliteral(&kind, default)
            .map_err(|broken| Broken { rule: Rule::S2, ..broken }.below("default"))
    });
    let aliases = map.get("x-alias").map(|_| texts(map, "x-alias"));
    Ok(Field {
        name: name.to_owned(),
        description: optional_text(map, "description"),
        unit: optional_text(map, "x-unit"),
        source: optional_text(map, "x-source"),
        since: narrow(map, "x-since")?,
        critical: Criticality::of(text(map, "x-critical")?)
            .ok_or_else(|| dialect("x-critical", "unknown word"))?,
        default: default.transpose()?,
        aliases: aliases.transpose()?.unwrap_or_default(),
        kind,
    })
}

fn type_of(map: &Map) -> Result<Type, Broken> {
    match text(map, "x-type")? {
        "bool" => Ok(Type::Bool),
        "bytes" => Ok(Type::Bytes(uint(map, "minLength")? / 2, uint(map, "maxLength")? / 2)),
        "text" => Ok(Type::Text(uint(map, "maxLength")?)),
        "enum" => Ok(Type::Enum(texts(map, "enum")?)),
        "list" => {
            let item = type_of(inner(map, "items")?).map_err(|broken| broken.below("items"))?;
            Ok(Type::List(Box::new(item), uint(map, "minItems")?, uint(map, "maxItems")?))
        }
        "struct" => struct_of(map).map(Type::Struct),
        "optional" => {
            let either = map.get("anyOf").and_then(Value::as_list).unwrap_or_default();
            let first = either.first().and_then(Value::as_map);
            let first = first.ok_or_else(|| dialect("anyOf", "no list of a type and null"))?;
            Ok(Type::Optional(Box::new(type_of(first).map_err(|broken| broken.below("anyOf"))?)))
        }
        word => int_of(word, map).map(Type::Int),
    }
}

fn int_of(word: &str, map: &Map) -> Result<Int, Broken> {
    let (signed, bits) = match word {
        "u8" => (false, 8),
        "u16" => (false, 16),
        "u32" => (false, 32),
        "u64" => (false, 64),
        "i8" => (true, 8),
        "i16" => (true, 16),
        "i32" => (true, 32),
        "i64" => (true, 64),
        other => return Err(dialect("x-type", other)),
    };
    let (min, max) = (int(map, "minimum")?, int(map, "maximum")?);
    let flags = match map.get("x-bits") {
        None => Vec::new(),
        Some(_) => inner(map, "x-bits")?.iter().map(flag).collect::<Result<_, _>>()?,
    };
    Ok(Int { bits, signed, min, max, flags })
}

fn flag((name, bit): (&str, &Value)) -> Result<(String, u8), Broken> {
    let bit = bit.as_u64().and_then(|bit| u8::try_from(bit).ok());
    let bit = bit.ok_or_else(|| dialect("x-bits", "no number of a bit"))?;
    Ok((name.to_owned(), bit))
}

/// The path of the first place where two values differ.
fn difference(left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Map(left), Value::Map(right)) => {
            // What both have is compared once: whoever asks twice at each level asks 2^32 times at the last.
            let common = left.iter().find_map(|(key, value)| match right.get(key) {
                Some(other) => difference(value, other).map(|below| join(key, &below)),
                None => Some(key.to_owned()),
            });
            let new = || right.iter().find(|(key, _)| left.get(key).is_none());
            common.or_else(|| new().map(|(key, _)| key.to_owned()))
        }
        (left, right) => (left != right).then(String::new),
    }
}

fn join(key: &str, below: &str) -> String {
    if below.is_empty() { key.to_owned() } else { format!("{key}.{below}") }
}

/// A literal of the JSON projection back into a value of a type.
pub(crate) fn unliteral(kind: &Type, literal: &Value) -> Result<Value, Broken> {
    let misfit = || Broken::new(Rule::D1).found(literal.noun());
    match (kind, literal) {
        (Type::Bytes(..), Value::Text(digits)) => {
            unhex(digits).map(Value::Bytes).ok_or_else(misfit)
        }
        (Type::Bytes(..), _) => Err(misfit()),
        (Type::List(item, ..), Value::List(items)) => {
            let each = |(index, value)| {
                unliteral(item, value).map_err(|broken: Broken| broken.below(index))
            };
            Ok(Value::List(items.iter().enumerate().map(each).collect::<Result<_, _>>()?))
        }
        (Type::Struct(fields), Value::Map(map)) => unliteral_struct(fields, map).map(Value::Map),
        (Type::Optional(_), Value::Null) => Ok(Value::Null),
        (Type::Optional(inner), literal) => unliteral(inner, literal),
        (_, literal) => Ok(literal.clone()),
    }
}

/// The literals of a struct back into values.
pub(crate) fn unliteral_struct(fields: &Struct, map: &Map) -> Result<Map, Broken> {
    let each = |(name, value): (&str, &Value)| {
        let field = fields.field(name).ok_or_else(|| Broken::new(Rule::D1).path(name))?;
        let value = unliteral(&field.kind, value).map_err(|broken| broken.below(name))?;
        Ok((name.to_owned(), value))
    };
    map.iter().map(each).collect()
}

/// Bytes of lower-case hexadecimal digits.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
