//! Names in registries, by Docker Hub's rules.
//!
//! The result is [`Reference`] of `oci-spec`. Its own parser is a regular expression that takes a quarter of a second to
//! compile, longer than a VM may take to be created; tests hold ours against it.
//!
//! Source: distribution/reference, reference.go, "Grammar", and normalize.go.

use oci_spec::distribution::{ParseError, Reference};

use crate::digest::Digest;
use crate::source::{self, SourceError};

/// Parses a name in a registry: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
///
/// # Errors
///
/// [`SourceError::Name`], or [`SourceError::Digest`] for one that is not sha256.
pub fn registry_name(text: &str) -> Result<Reference, SourceError> {
    let shown = || source::shown(text);
    let bad = |rule| SourceError::Name { text: shown(), rule };
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (rest, None),
    };
    let (registry, path) = split(name);
    check_path(path).map_err(bad)?;
    // A host may have underscores where a path may: some networks name their machines so.
    if !registry.is_none_or(|host| is_host(host) || is_component(host)) {
        return Err(bad(ParseError::ReferenceInvalidFormat));
    }
    if !tag.is_none_or(is_tag) {
        return Err(bad(ParseError::TagInvalidFormat));
    }
    if let Some(digest) = digest {
        let error = |source| SourceError::Digest { text: shown(), source };
        digest.parse::<Digest>().map_err(error)?;
    }
    let registry = match registry {
        None | Some("index.docker.io") => HUB,
        Some(registry) => registry,
    };
    let official = registry == HUB && !path.contains('/');
    let path = if official { format!("library/{path}") } else { path.to_owned() };
    if path.len() > MAX_PATH_BYTES {
        return Err(bad(ParseError::NameTooLong));
    }
    let (registry, tag) = (registry.to_owned(), tag.map(str::to_owned));
    Ok(match (tag, digest.map(str::to_owned)) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, path, tag, digest),
        (None, Some(digest)) => Reference::with_digest(registry, path, digest),
        (tag, None) => {
            Reference::with_tag(registry, path, tag.unwrap_or_else(|| "latest".to_owned()))
        }
    })
}

/// The host, if there is one, and the path. A first part is a host if it could not be part of a path, or is `localhost`.
fn split(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (Some(host), path)
        }
        Some(_) | None => (None, name),
    }
}

fn check_path(path: &str) -> Result<(), ParseError> {
    if path.is_empty() {
        Err(ParseError::NameEmpty)
    } else if path.split('/').all(is_component) {
        Ok(())
    } else if path.to_lowercase().split('/').all(is_component) {
        Err(ParseError::NameContainsUppercase)
    } else {
        Err(ParseError::ReferenceInvalidFormat)
    }
}

/// Runs of lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = part.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| is_word(**byte)).count();
        rest = rest.get(word..).unwrap_or_default();
        let between = rest.iter().take_while(|byte| !is_word(**byte)).count();
        let (separator, next) = rest.split_at_checked(between).unwrap_or_default();
        if word == 0 {
            return false;
        }
        if separator.is_empty() {
            return true;
        }
        let dashes = separator.iter().all(|byte| *byte == b'-');
        if !dashes && ![&b"."[..], b"_", b"__"].contains(&separator) {
            return false;
        }
        rest = next;
    }
}

/// Labels with dots between them, and perhaps a port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    name.split('.').all(label) && port.is_none_or(digits)
}

/// 1 to 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`.
fn is_tag(tag: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=128).contains(&tag.len()) && tag.bytes().all(fits) && !tag.starts_with(['.', '-'])
}

const HUB: &str = "docker.io";
const MAX_PATH_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_oci_spec_takes_we_take_alike_and_nothing_else(
            text in prop_oneof![
                "[aA0./:@_-]{0,12}",
                "([a-z0-9]{1,3}([._-]|__)?){1,3}(/[a-z]{1,2}([._-]{1,2}[a-z])?){0,2}(:[a-z0-9._-]{0,4})?",
                "(localhost|a\\.b|a:5000|A|index\\.docker\\.io|docker\\.io)(/[a-z]{1,2}){0,2}(:t)?(@sha256:[0-9a-f]{63,65})?",
            ]
        ) {
            let ours = registry_name(&text);
            let theirs: Result<Reference, _> = text.parse();
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Err(_), Err(_)) => {}
                // Theirs lets an upper-case letter through in the first part of a path.
                (Err(SourceError::Name { rule: ParseError::NameContainsUppercase, .. }), Ok(_)) => {}
                (ours, theirs) => prop_assert!(false, "{text:?}: {ours:?}, {theirs:?}"),
            }
        }
    }

    #[test]
    fn too_long_a_path_and_an_upper_case_letter_are_named() {
        let rule = |text: &str| match registry_name(text) {
            Err(SourceError::Name { rule, .. }) => rule,
            other => panic!("{other:?}"),
        };

        assert_eq!(rule(&"a".repeat(256)), ParseError::NameTooLong);
        assert_eq!(rule("localhost/Name"), ParseError::NameContainsUppercase);
        assert_eq!(rule("name:.tag"), ParseError::TagInvalidFormat);
    }
}
