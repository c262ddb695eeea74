//! What is read.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a guest can see of its machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// Whose contract it is: `QEMU 10.0.2`.
    pub producer: String,
    /// Its parts, by path.
    pub components: Vec<Component>,
}

/// One part: the machine itself, a vCPU, a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Where it is: `machine`, `cpu/0`, `pci.0/03.0`.
    pub path: String,
    /// What it is, in QEMU's words: `virtio-net-pci`.
    pub kind: String,
    /// Path of the attribute that decides whether this part is there at all.
    pub follows: Option<String>,
    /// What the guest sees of it, by name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// One thing that a guest can see.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Its value.
    pub value: Value,
    /// How a destination's may differ.
    pub policy: Policy,
    /// What a side that does not know the attribute behaves like; `None` if that cannot be said.
    pub absent: Option<Value>,
    /// Path of the attribute that this one is computed from when nobody sets it.
    pub follows: Option<String>,
}

/// How a destination's value may differ from the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Not at all.
    Exact,
    /// The source's list is part of the destination's.
    Subset,
    /// As it likes; it is shown.
    Informational,
}

impl Component {
    /// A part without attributes.
    pub(crate) fn new(path: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { path: path.into(), kind: kind.into(), follows: None, attributes: BTreeMap::new() }
    }

    /// Adds an attribute that must be the same.
    pub(crate) fn exact(&mut self, name: &str, value: Value) -> &mut Attribute {
        let absent = zero(&value);
        let attribute = Attribute { value, policy: Policy::Exact, absent, follows: None };
        self.attributes.insert(name.to_owned(), attribute);
        self.attributes.get_mut(name).expect("inserted the line above")
    }
}

/// What a property of this kind is before anybody sets it. A version that lacks a property behaves as if it were that.
fn zero(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => Some(Value::Bool(false)),
        Value::Number(_) => Some(Value::from(0)),
        Value::String(_) => Some(Value::from("")),
        Value::Array(_) => Some(Value::Array(Vec::new())),
        Value::Null | Value::Object(_) => None,
    }
}
