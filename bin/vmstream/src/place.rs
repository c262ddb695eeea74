//! Paths as users write them: `bus/uart0`, `bus/uart0.irq.vector`, `bus/uart0.lines[2]`.

use serde_json::Value as Json;

/// The part of `wanted` below `device`, if `device` is what it begins with.
pub(crate) fn below<'a>(device: &str, wanted: &'a str) -> Option<&'a str> {
    let rest = wanted.strip_prefix(device)?;
    if rest.is_empty() || rest.starts_with('[') { Some(rest) } else { rest.strip_prefix('.') }
}

/// Whichever of the devices `wanted` leads into: the one with the longest name, since names may have dots themselves.
pub(crate) fn device<'a>(devices: impl Iterator<Item = &'a str>, wanted: &str) -> Option<&'a str> {
    devices.filter(|device| below(device, wanted).is_some()).max_by_key(|device| device.len())
}

/// The value at a path, in parts joined by dots, positions in brackets or not.
pub(crate) fn find<'a>(value: &'a Json, path: &str) -> Option<&'a Json> {
    let mut at = value;
    let parts = path.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    for part in parts.filter(|part| !part.is_empty()) {
        at = match at {
            Json::Object(object) => object.get(part)?,
            Json::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => return None,
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_device_is_meant() {
        let devices = ["a", "a.b", "00:03.0/net"];
        let find = |wanted| device(devices.into_iter(), wanted);

        assert_eq!(find("a.b.c"), Some("a.b"));
        assert_eq!(find("a.c"), Some("a"));
        assert_eq!(find("a[3]"), Some("a"));
        assert_eq!(find("00:03.0/net.status"), Some("00:03.0/net"));
        assert_eq!(find("ab"), None);
    }

    #[test]
    fn positions_are_found_with_brackets_and_without() {
        let value = json!({"lines": [{"vector": 3}, {"vector": 4}]});

        assert_eq!(find(&value, "lines[1].vector"), Some(&json!(4)));
        assert_eq!(find(&value, "lines.1.vector"), Some(&json!(4)));
        assert_eq!(find(&value, "[1]"), None);
        assert_eq!(find(&value, "lines[2]"), None);
        assert_eq!(find(&value, ""), Some(&value));
    }
}
