//! Device records.

use super::{Fields, Message};
use crate::broken::Broken;
use crate::rule::Rule;
use crate::value::{Map, Value};

/// The state of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Which device: a path of its own within the machine.
    pub path: String,
    /// What kind of record it is: the name in its schema.
    pub kind: String,
    /// Id of the schema, as its frame says.
    pub schema: u32,
    /// The fields that are not at their defaults.
    pub state: Map,
}

impl Message for DeviceRecord {
    fn to_value(&self) -> Value {
        self.value_with(self.state.clone())
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let (path, kind) = (fields.path("path")?, fields.text("kind")?);
        let schema = fields.small("schema")?;
        let state = fields.value("state")?.into_map();
        let state =
            state.map_err(|other| Broken::new(Rule::M1).path("state").found(other.noun()))?;
        fields.done()?;
        Ok(Self { path, kind, schema, state })
    }
}

impl DeviceRecord {
    /// The record as it is sent, with a state of fewer fields.
    pub(crate) fn value_with(&self, state: Map) -> Value {
        let map = Map::new().with("path", self.path.as_str()).with("kind", self.kind.as_str());
        Value::Map(map.with("schema", self.schema).with("state", state))
    }
}

/// Reads the payload of a device frame: one record or more.
pub(crate) fn records_from(value: Value) -> Result<Vec<DeviceRecord>, Broken> {
    let items = value.into_list().map_err(|other| Broken::new(Rule::M1).found(other.noun()))?;
    if items.is_empty() {
        return Err(Broken::new(Rule::M1).found("no record"));
    }
    let read = |(index, item)| {
        DeviceRecord::from_value(item).map_err(|broken: Broken| broken.below(index))
    };
    items.into_iter().enumerate().map(read).collect()
}
