//! Whether a file is metadata at all, and what its values look like.

use std::io;

use bandsox_spec::{VmId, VmIdError};
use serde_json::{Map, Value};

use super::{IMAGE_REFERENCE, Metadata};

/// Why nothing can be said about a VM although there is a file about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file has no content, as after a crash of something that does not replace files whole.
    #[error("the file is empty")]
    Empty,
    /// The file is far larger than metadata can be.
    #[error("the file is larger than {} bytes", Metadata::MAX_BYTES)]
    TooLarge,
    /// There is a directory, a link or a device of that name.
    #[error("it is not a regular file")]
    NotRegular,
    /// The content is no JSON.
    #[error("the file is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// Line of the first mistake, counted from 1.
        line: usize,
        /// Column of the first mistake, counted from 1.
        column: usize,
    },
    /// The content is JSON, but a list or a bare value.
    #[error("the file holds no JSON object")]
    NotAnObject,
    /// A key that we read holds something that it never holds.
    #[error(transparent)]
    WrongType(#[from] WrongType),
    /// The file calls its VM something else than its own name does.
    #[error("the file is about the VM {found:?}, not about the one it is named after")]
    WrongId {
        /// What the file calls its VM; cut off when long.
        found: String,
    },
    /// The file's name is no VM's.
    #[error("the file is not named after a VM")]
    BadName {
        /// Why not.
        source: VmIdError,
    },
    /// The file is gone while the VM's monitor runs.
    #[error("the file is missing while the VM runs")]
    Missing,
    /// Whether the VM runs cannot be told.
    #[error("its lock cannot be asked about")]
    LockUnreadable {
        /// What stands in the way.
        source: crate::file::FileError,
    },
    /// The operating system would not let us read it.
    #[error("the file could not be read")]
    Unreadable {
        /// What it said.
        source: io::Error,
    },
}

/// A key of a JSON object holds something that it never holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} is {found}; want {want}")]
pub struct WrongType {
    /// Which key.
    pub key: &'static str,
    /// What it holds.
    pub found: &'static str,
    /// What it should hold.
    pub want: &'static str,
}

/// Reads an object and checks every key that the accessors look at.
pub(super) fn parse(id: &VmId, bytes: &[u8]) -> Result<Map<String, Value>, Damage> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Damage::Empty);
    }
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Damage::NotJson { line: error.line(), column: error.column() })?;
    let Value::Object(object) = value else { return Err(Damage::NotAnObject) };
    check_shape(&object)?;
    match object.get("id").and_then(Value::as_str) {
        Some(found) if found != id.as_str() => {
            Err(Damage::WrongId { found: found.chars().take(VmId::MAX_BYTES).collect() })
        }
        Some(_) | None => Ok(object),
    }
}

/// What a key may hold. `null` is as good as absent everywhere: older versions wrote it.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Whole,
    Object,
}

const SHAPES: [(&str, Shape); 16] = [
    ("id", Shape::Text),
    ("name", Shape::Text),
    ("image", Shape::Text),
    (IMAGE_REFERENCE, Shape::Text),
    ("vcpu", Shape::Whole),
    ("mem_mib", Shape::Whole),
    ("disk_size_mib", Shape::Whole),
    ("rootfs_path", Shape::Text),
    ("vsock_config", Shape::Object),
    ("status", Shape::Text),
    ("pid", Shape::Whole),
    ("env_vars", Shape::Object),
    ("engine", Shape::Text),
    ("overlay_path", Shape::Text),
    ("boot_id", Shape::Text),
    ("pid_start", Shape::Whole),
];

fn check_shape(object: &Map<String, Value>) -> Result<(), WrongType> {
    for (key, shape) in SHAPES {
        if let Some(value) = object.get(key).filter(|value| !value.is_null()) {
            let (fits, want) = match shape {
                Shape::Text => (value.is_string(), "text"),
                Shape::Whole => (whole(value).is_some(), "a whole number"),
                Shape::Object => (value.is_object(), "an object"),
            };
            if !fits {
                return Err(WrongType { key, found: kind(value), want });
            }
        }
    }
    match object.get("vsock_config") {
        Some(Value::Object(config)) => check_vsock(config),
        Some(_) | None => Ok(()),
    }
}

fn check_vsock(config: &Map<String, Value>) -> Result<(), WrongType> {
    if let Some(value) = config.get("enabled")
        && !matches!(value, Value::Bool(_) | Value::Null)
    {
        let (key, found) = ("vsock_config.enabled", kind(value));
        return Err(WrongType { key, found, want: "true or false" });
    }
    for (name, key) in [("cid", "vsock_config.cid"), ("port", "vsock_config.port")] {
        if let Some(value) = config.get(name)
            && !value.is_null()
            && whole(value).and_then(|number| u32::try_from(number).ok()).is_none()
        {
            return Err(WrongType { key, found: kind(value), want: "a whole number of 32 bits" });
        }
    }
    Ok(())
}

/// A whole number, also one written as `2.0`, as other languages' tools do.
pub(super) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        let exact = number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&number);
        exact.then(|| format!("{number:.0}").parse().ok())?
    })
}

/// The largest number up to which every whole one has its own floating-point form: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// An environment variable's value as text.
pub(super) fn env_value(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
