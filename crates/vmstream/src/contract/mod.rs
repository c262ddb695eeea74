//! The contract: what source and destination must agree on, compared before the first page.

mod cause;
mod compare;

pub use compare::{Comparison, Side, compare, compare_between};

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
    /// The attributes, as `path#name`, that this one depends on: where one of them refuses, a difference here is its consequence.
    pub follows: Vec<String>,
    /// What a side that does not know the attribute behaves like.
    pub absent: Option<Value>,
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
            follows: Vec::new(),
            absent: None,
            hint: None,
        }
    }

    /// With a unit.
    #[must_use]
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = Some(unit.to_owned());
        self
    }

    /// With an attribute that it depends on, as `path#name`, besides those that it has.
    #[must_use]
    pub fn follows(mut self, other: impl Into<String>) -> Self {
        self.follows.push(other.into());
        self
    }

    /// With what a side that does not know it behaves like.
    #[must_use]
    pub fn absent(mut self, value: impl Into<Value>) -> Self {
        self.absent = Some(value.into());
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
        let list = |value: &Value| value.as_list().is_some_and(|items| items.iter().all(scalar));
        let suits = |value: &Value| match self.policy {
            Policy::Exact | Policy::Informational => list(value) || scalar(value),
            Policy::AtLeast => value.as_int().is_some(),
            Policy::Subset => list(value),
        };
        let all_suit = suits(&self.value) && self.absent.as_ref().is_none_or(suits);
        if all_suit && is_path(&self.path) && is_path(&self.attribute) {
            return Ok(());
        }
        let found = format!("{} is {}, {}", self.name(), self.value.noun(), self.policy);
        Err(Broken::new(Rule::M5).found(found))
    }
}

impl Message for Attribute {
    fn to_value(&self) -> Value {
        let Self { path, attribute, value, policy, unit, follows, absent, hint } = self;
        let mut map = Map::new()
            .with("path", path.as_str())
            .with("attribute", attribute.as_str())
            .with("value", value.clone())
            .with("policy", policy.word());
        for (key, text) in [("unit", unit), ("hint", hint)] {
            if let Some(text) = text {
                map.insert(key, text.as_str());
            }
        }
        if !follows.is_empty() {
            let names: Vec<Value> = follows.iter().map(|name| name.as_str().into()).collect();
            map.insert("follows", names);
        }
        if let Some(absent) = absent {
            map.insert("absent", absent.clone());
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
            follows: fields.optional_list("follows", name_from)?.unwrap_or_default(),
            absent: fields.maybe("absent"),
            hint: fields.maybe_text("hint")?,
        };
        fields.done()?;
        attribute.check()?;
        Ok(attribute)
    }
}

fn name_from(value: Value) -> Result<String, Broken> {
    value.into_text().map_err(|other| Broken::new(Rule::M1).found(other.noun()))
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
