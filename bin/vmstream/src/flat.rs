//! Two values, and where they differ.

use serde_json::Value as Json;

/// A difference: nothing stands for what one side lacks.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) path: String,
    pub(crate) a: Option<Json>,
    pub(crate) b: Option<Json>,
}

/// Adds what differs between two values at `path`, down to single fields.
pub(crate) fn differences(
    path: &str,
    a: Option<&Json>,
    b: Option<&Json>,
    out: &mut Vec<Difference>,
) {
    match (a, b) {
        (Some(Json::Object(one)), Some(Json::Object(other))) => {
            for (key, value) in one {
                differences(&format!("{path}.{key}"), Some(value), other.get(key), out);
            }
            for (key, value) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
                differences(&format!("{path}.{key}"), None, Some(value), out);
            }
        }
        (Some(Json::Array(one)), Some(Json::Array(other))) => {
            for at in 0..one.len().max(other.len()) {
                differences(&format!("{path}[{at}]"), one.get(at), other.get(at), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(Difference { path: path.to_owned(), a: a.cloned(), b: b.cloned() }),
    }
}

/// A value on a line: long ones are cut.
pub(crate) fn short(value: Option<&Json>) -> String {
    const LONGEST: usize = 80;
    let text = value.map_or_else(|| "absent".to_owned(), ToString::to_string);
    if text.chars().count() <= LONGEST {
        return text;
    }
    let cut: String = text.chars().take(LONGEST).collect();
    format!("{cut}…")
}
