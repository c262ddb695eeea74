//! The contract: what source and destination must agree on, compared before the first page.

mod compare;

pub use compare::{Comparison, compare};

use std::fmt;

use crate::broken::Broken;
use crate::message::{Fields, Message, is_path};
use crate::rule::Rule;
use crate::value::{Map, Value};

/// How an attribute of the source must relate to the destination's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They are equal.
    Exact,
    /// The destination's integer is not smaller.
    AtLeast,
    /// The destination's list has everything that the source's has.
    Subset,
    /// They may differ; it is said that they do.
    Informational,
}

impl Policy {
    /// The word in the stream.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::AtLeast => "at-least",
            Self::Subset => "subset",
            Self::Informational => "informational",
        }
    }

    fn of(word: &str) -> Option<Self> {
        let all = [Self::Exact, Self::AtLeast, Self::Subset, Self::Informational];
        all.into_iter().find(|policy| policy.word() == word)
    }
}

/// One thing that the guest can see, or that a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// What it belongs to: a device's path, `machine`, `cpu`, ….
    pub path: String,
    /// Its name there.
    pub attribute: String,
    /// Its value: a truth value, an integer, bytes, text, or a list of those.
    pub value: Value,
    /// How it is compared.
    pub policy: Policy,
    /// The unit of an integer.
    pub unit: Option<String>,
    /// The attribute, as `path#name`, that this one was derived from, and not set by anyone.
    pub follows: Option<String>,
    /// What sets it: an option of the program, for one.
    pub hint: Option<String>,
}

impl Attribute {
    /// An attribute without unit, origin or hint.
    #[must_use]
    pub fn new(path: &str, attribute: &str, value: impl Into<Value>, policy: Policy) -> Self {
        Self {
            path: path.to_owned(),
            attribute: attribute.to_owned(),
            value: value.into(),
            policy,
            unit: None,
            follows: None,
            hint: None,
        }
    }

    /// With a unit.
    #[must_use]
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = Some(unit.to_owned());
        self
    }

    /// With the attribute that it follows from, as `path#name`.
    #[must_use]
    pub fn follows(mut self, other: &str) -> Self {
        self.follows = Some(other.to_owned());
        self
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// `path#name`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}#{}", self.path, self.attribute)
    }

    fn check(&self) -> Result<(), Broken> {
        let scalar = |value: &Value| {
            matches!(value, Value::Bool(_) | Value::Int(_) | Value::Bytes(_) | Value::Text(_))
        };
        let list = self.value.as_list().is_some_and(|items| items.iter().all(scalar));
        let suits = match self.policy {
            Policy::Exact | Policy::Informational => list || scalar(&self.value),
            Policy::AtLeast => self.value.as_int().is_some(),
            Policy::Subset => list,
        };
        if suits && is_path(&self.path) && is_path(&self.attribute) {
            return Ok(());
        }
        let found = format!("{} is {}, {}", self.name(), self.value.noun(), self.policy);
        Err(Broken::new(Rule::M5).found(found))
    }
}

impl Message for Attribute {
    fn to_value(&self) -> Value {
        let Self { path, attribute, value, policy, unit, follows, hint } = self;
        let mut map = Map::new()
            .with("path", path.as_str())
            .with("attribute", attribute.as_str())
            .with("value", value.clone())
            .with("policy", policy.word());
        for (key, text) in [("unit", unit), ("follows", follows), ("hint", hint)] {
            if let Some(text) = text {
                map.insert(key, text.as_str());
            }
        }
        Value::Map(map)
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let word = fields.text("policy")?;
        let attribute = Self {
            path: fields.text("path")?,
            attribute: fields.text("attribute")?,
            value: fields.value("value")?,
            policy: Policy::of(&word)
                .ok_or_else(|| Broken::new(Rule::M5).path("policy").found(word))?,
            unit: fields.maybe_text("unit")?,
            follows: fields.maybe_text("follows")?,
            hint: fields.maybe_text("hint")?,
        };
        fields.done()?;
        attribute.check()?;
        Ok(attribute)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
