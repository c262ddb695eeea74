//! Values as JSON.

use serde_json::{Map as Object, Value as Json};

use crate::broken::Broken;
use crate::rule::Rule;
use crate::schema::{Schema, hex, unhex, unliteral_struct};
use crate::value::{Map, Value};

/// A value that no schema describes, with escapes for what JSON lacks.
#[must_use]
pub fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Bytes(bytes) => escape("$bytes", hex(bytes)),
        Value::Int(int) if i64::try_from(*int).is_err() && u64::try_from(*int).is_err() => {
            escape("$int", int.to_string())
        }
        Value::List(items) => Json::Array(items.iter().map(value_to_json).collect()),
        Value::Map(map) => {
            let key = |key: &str| if key.starts_with('$') { format!("${key}") } else { key.into() };
            Json::Object(map.iter().map(|(k, value)| (key(k), value_to_json(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) => plain(value),
    }
}

fn escape(key: &str, text: String) -> Json {
    Json::Object(Object::from_iter([(key.to_owned(), Json::String(text))]))
}

/// The value that [`value_to_json`] made JSON of.
///
/// # Errors
///
/// [`Rule::J1`], with the path.
pub fn value_from_json(json: &Json) -> Result<Value, Broken> {
    match json {
        Json::Array(items) => {
            let each = |(index, item)| value_from_json(item).map_err(|b: Broken| b.below(index));
            items.iter().enumerate().map(each).collect::<Result<_, _>>().map(Value::List)
        }
        Json::Object(object) => {
            let mut pairs = object.iter();
            let form = || Broken::new(Rule::J1).found("no such escape");
            match (pairs.next(), pairs.next()) {
                (Some((key, Json::String(text))), None) if key == "$bytes" => {
                    return unhex(text).map(Value::Bytes).ok_or_else(form);
                }
                (Some((key, Json::String(text))), None) if key == "$int" => {
                    return text.parse().map(Value::Int).map_err(|_| form());
                }
                _ => {}
            }
            let each = |(key, value): (&String, &Json)| {
                let name = match key.strip_prefix('$') {
                    None => key.as_str(),
                    Some(rest) if rest.starts_with('$') => rest,
                    Some(_) => return Err(form().path(key)),
                };
                let value = value_from_json(value).map_err(|broken| broken.below(key))?;
                Ok((name.to_owned(), value))
            };
            object.iter().map(each).collect::<Result<Map, _>>().map(Value::Map)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => scalar(json),
    }
}

/// A record as its schema describes it.
#[must_use]
pub fn state_to_json(state: &Map) -> Json {
    plain_map(state)
}

fn plain_map(map: &Map) -> Json {
    Json::Object(map.iter().map(|(key, value)| (key.to_owned(), plain(value))).collect())
}

/// The record that [`state_to_json`] made JSON of, without the fields that are at their defaults.
///
/// # Errors
///
/// [`Rule::D1`] or [`Rule::J1`], with the path.
pub fn state_from_json(json: &Json, schema: &Schema) -> Result<Map, Broken> {
    let map = unplain(json)?.into_map();
    let map = map.map_err(|other| Broken::new(Rule::D1).found(other.noun()))?;
    unliteral_struct(&schema.root, &map).map(|state| schema.strip(&state))
}

/// JSON of a value as its schema describes it, or of a schema's document: bytes as digits.
pub(super) fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Int(int) => match (u64::try_from(*int), i64::try_from(*int)) {
            (Ok(int), _) => Json::from(int),
            (_, Ok(int)) => Json::from(int),
            // Integers of schemas are of 64 bits at most.
            _ => Json::Null,
        },
        Value::Bytes(bytes) => Json::String(hex(bytes)),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(plain).collect()),
        Value::Map(map) => plain_map(map),
    }
}

/// The value of JSON without escapes.
pub(super) fn unplain(json: &Json) -> Result<Value, Broken> {
    match json {
        Json::Array(items) => items.iter().map(unplain).collect::<Result<_, _>>().map(Value::List),
        Json::Object(object) => {
            let each = |(key, value): (&String, &Json)| Ok((key.clone(), unplain(value)?));
            object.iter().map(each).collect::<Result<Map, _>>().map(Value::Map)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => scalar(json),
    }
}

fn scalar(json: &Json) -> Result<Value, Broken> {
    match json {
        Json::Null => Ok(Value::Null),
        Json::Bool(bool) => Ok(Value::Bool(*bool)),
        Json::String(text) => Ok(Value::Text(text.clone())),
        Json::Number(number) => {
            let int = number.as_u64().map(i128::from).or(number.as_i64().map(i128::from));
            int.map(Value::Int).ok_or_else(|| Broken::new(Rule::J1).found(number))
        }
        Json::Array(_) | Json::Object(_) => Err(Broken::new(Rule::J1)),
    }
}
