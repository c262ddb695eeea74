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

/// The value at a path: names joined by dots, which they may have themselves, and positions in brackets or not.
pub(crate) fn find<'a>(value: &'a Json, path: &str) -> Option<&'a Json> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return Some(value);
    }
    match value {
        Json::Object(object) => {
            let mut names: Vec<_> = object
                .iter()
                .filter_map(|(name, value)| Some((below(name, path)?, value)))
                .collect();
            // The longest name first: what is left of the path is shortest.
            names.sort_by_key(|(rest, _)| rest.len());
            names.into_iter().find_map(|(rest, value)| find(value, rest))
        }
        Json::Array(items) => {
            let path = path.strip_prefix('[').unwrap_or(path);
            let end = path.find(['.', '[', ']']).unwrap_or(path.len());
            let (position, rest) = path.split_at(end);
            let rest = rest.strip_prefix(']').unwrap_or(rest);
            find(items.get(position.parse::<usize>().ok()?)?, rest)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
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
    fn names_may_have_dots_and_brackets() {
        let value =
            json!({"env": {"eip": 1}, "env.eip": 2, "vring.avail": {"x[1]": 3, "x": [4, 5]}});

        assert_eq!(find(&value, "env.eip"), Some(&json!(2)));
        assert_eq!(find(&value, "vring.avail.x[1]"), Some(&json!(3)));
        assert_eq!(find(&value, "vring.avail.x[0]"), Some(&json!(4)));
        assert_eq!(find(&value, "vring"), None);
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
