//! What is wrong with an input, and where.

use std::fmt;

use crate::rule::Rule;

/// A rule that bytes or values break.
///
/// The offset is in bytes from the start of what was looked at: a payload, or a stream once a reader has said where the payload begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which rule.
    pub rule: Rule,
    /// Where, in bytes.
    pub at: u64,
    /// The value's path inside of its payload, in parts joined by dots; empty for the whole.
    pub path: String,
    /// What was there, or what of the rule is not kept, if that can be said in a few words.
    pub found: Option<String>,
}

impl Broken {
    /// The rule, at offset 0, of the whole.
    #[must_use]
    pub const fn new(rule: Rule) -> Self {
        Self { rule, at: 0, path: String::new(), found: None }
    }

    /// With an offset.
    #[must_use]
    pub const fn at(mut self, at: u64) -> Self {
        self.at = at;
        self
    }

    /// With a path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// With what was found.
    #[must_use]
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.found = Some(found.to_string());
        self
    }

    /// The same, seen from one level up.
    #[must_use]
    pub fn below(mut self, key: impl fmt::Display) -> Self {
        self.path =
            if self.path.is_empty() { key.to_string() } else { format!("{key}.{}", self.path) };
        self
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path.escape_debug())?;
        }
        if let Some(found) = &self.found {
            write!(f, "{}; ", found.escape_debug())?;
        }
        self.rule.fmt(f)
    }
}

impl std::error::Error for Broken {}
