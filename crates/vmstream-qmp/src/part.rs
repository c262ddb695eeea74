//! Attributes of one part of a machine.

use serde_json::Value as Json;
use vmstream::Value;
use vmstream::contract::{Attribute, Policy};

/// What every attribute follows: a machine of another type is another machine.
pub(crate) const MACHINE_TYPE: &str = "machine#type";

/// Name of the attribute that says what is at a path.
const DEVICE: &str = "device";

/// A part: the machine itself, a vCPU, a device. All it has follows what it is.
#[derive(Debug)]
pub(crate) struct Part {
    path: String,
    /// What sets its attributes, but for the attribute's name.
    hint: String,
    /// What each of its attributes follows.
    follows: Vec<String>,
    attributes: Vec<Attribute>,
}

impl Part {
    /// A part that every machine has, set by the option `hint`.
    pub(crate) fn of_machine(path: &str, hint: &str) -> Self {
        let follows = vec![MACHINE_TYPE.to_owned()];
        Self { path: path.to_owned(), hint: hint.to_owned(), follows, attributes: Vec::new() }
    }

    /// The machine, whose type all else follows.
    pub(crate) fn machine(kind: &str) -> Self {
        let mut part = Self::of_machine("machine", "-machine");
        part.attributes
            .push(Attribute::new("machine", "type", kind, Policy::Exact).hint("-machine"));
        part
    }

    /// A part that may be there or not, and is what the option `hint` says.
    pub(crate) fn device(path: &str, kind: &str, hint: &str) -> Self {
        let mut part = Self::of_machine(path, &format!("{hint} {kind}"));
        let device = Attribute::new(path, DEVICE, kind, Policy::Exact);
        part.attributes.push(device.hint(hint).follows(MACHINE_TYPE));
        part.follows.push(format!("{path}#{DEVICE}"));
        part
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What it is follows `other`, too.
    pub(crate) fn itself_follows(&mut self, other: &str) {
        if let Some(device) = self.attributes.first_mut() {
            device.follows.push(other.to_owned());
        }
    }

    /// Adds an attribute, or changes the one of that name: what must be the same, and without which a device is as if it were zero.
    /// `None` for what has no value.
    pub(crate) fn exact(&mut self, name: &str, value: &Json) -> Option<&mut Attribute> {
        let value = scalar_or_list(value)?;
        let absent = zero(&value);
        let attribute = Attribute { absent, ..self.bare(name, value, Policy::Exact) };
        Some(self.add(attribute))
    }

    /// Adds a list all of which the destination must have.
    pub(crate) fn subset(&mut self, name: &str, items: Vec<Value>) -> &mut Attribute {
        let attribute = self.bare(name, Value::List(items), Policy::Subset);
        self.add(attribute)
    }

    fn bare(&self, name: &str, value: Value, policy: Policy) -> Attribute {
        let follows = self.follows.clone();
        Attribute { follows, ..Attribute::new(&self.path, name, value, policy).hint(&self.hint) }
    }

    fn add(&mut self, attribute: Attribute) -> &mut Attribute {
        self.attributes.retain(|each| each.attribute != attribute.attribute);
        let at = self.attributes.len();
        self.attributes.push(attribute);
        &mut self.attributes[at]
    }

    pub(crate) fn into_attributes(self) -> Vec<Attribute> {
        self.attributes
    }
}

/// What a contract can hold of an answer: what is deeper stays JSON, as text.
fn scalar_or_list(json: &Json) -> Option<Value> {
    match json {
        Json::Null => None,
        Json::Array(items) => {
            let items = items.iter().map(scalar).collect::<Option<Vec<Value>>>();
            Some(items.map_or_else(|| json.to_string().into(), Value::List))
        }
        Json::Object(_) | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            scalar(json).or_else(|| Some(json.to_string().into()))
        }
    }
}

fn scalar(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(on) => Some((*on).into()),
        Json::String(text) => Some(text.as_str().into()),
        Json::Number(number) => {
            number.as_u64().map(Value::from).or_else(|| number.as_i64().map(Value::from))
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// What a property of this kind is before anybody sets it. A version that lacks a property behaves as if it were that.
fn zero(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => Some(false.into()),
        Value::Int(_) => Some(0_u8.into()),
        Value::Text(_) => Some("".into()),
        Value::List(_) => Some(Value::List(Vec::new())),
        Value::Null | Value::Bytes(_) | Value::Map(_) => None,
    }
}
