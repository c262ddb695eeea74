//! What a monitor answers.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::{PathB64, Transport};

/// One packet about the request of the same `id`. A request ends with `ok` or `error`; `progress` may come before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// Done, failed, or under way.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The three kinds of [`Reply`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done; the object is the one that [`crate::control::Op`] names.
    Ok(Value),
    /// Not done.
    Error(ControlError),
    /// Under way.
    Progress(Progress),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// From a closed list, for programs.
    pub code: String,
    /// One line for a person.
    pub message: String,
    /// What that person can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes moved so far.
    pub bytes: u64,
}

/// `ok` without content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// `ok` of `open_channel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// What the channel runs over.
    pub transport: Transport,
}

/// `ok` of `put_file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Where it is now: the path asked for, or the name within it if that is a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<PathB64>,
    /// Bytes written.
    pub bytes: u64,
    /// What they went over.
    pub transport: Transport,
    /// xxh64, seed 0, 16 hexadecimal digits.
    pub xxh64: String,
}

/// `ok` of `get_file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// xxh64, seed 0, 16 hexadecimal digits.
    pub xxh64: String,
    /// What it came over.
    pub transport: Transport,
}

/// What the agent said about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its version.
    pub version: String,
    /// Lowest and highest protocol version.
    pub protocols: (u8, u8),
    /// `uname -r` of the guest.
    #[serde(default)]
    pub kernel: String,
    /// Milliseconds from the kernel's start until it was ready.
    #[serde(default)]
    pub boot_ms: u64,
}

/// `ok` of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Spelled as in metadata's `status`.
    pub phase: String,
    /// vsock address of the guest, while it has one.
    #[serde(default)]
    pub cid: Option<u32>,
    /// vsock port of the agent, while it has one.
    #[serde(default)]
    pub port: Option<u16>,
    /// What new channels run over, once the agent has answered.
    #[serde(default)]
    pub transport: Option<Transport>,
    /// Process id of the engine on the host.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Which engine runs it.
    pub engine: String,
    /// The agent, once it has answered.
    #[serde(default)]
    pub agent: Option<AgentInfo>,
    /// Milliseconds since start.
    pub uptime_ms: u64,
    /// Milliseconds from start until the agent answered.
    #[serde(default)]
    pub ready_ms: Option<u64>,
}

impl Reply {
    /// An `ok` with this content.
    #[must_use]
    pub fn ok<T: Serialize>(id: u64, content: &T) -> Self {
        let value = serde_json::to_value(content);
        let value = value.expect("plain structures always serialise");
        Self { id, outcome: Outcome::Ok(value) }
    }

    /// An `error`.
    #[must_use]
    pub fn error(id: u64, error: ControlError) -> Self {
        Self { id, outcome: Outcome::Error(error) }
    }

    /// A `progress`.
    #[must_use]
    pub fn progress(id: u64, bytes: u64) -> Self {
        Self { id, outcome: Outcome::Progress(Progress { bytes }) }
    }

    /// Reads the content of an `ok`.
    ///
    /// # Errors
    ///
    /// If it is not of this shape.
    pub fn content<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
        serde_json::from_value(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_spelled_as_the_contract_has_them() {
        let error = ControlError { code: "x".into(), message: "m".into(), hint: None };
        let texts = [
            Reply::ok(1, &Opened { transport: Transport::Vsock }),
            Reply::ok(1, &Nothing {}),
            Reply::error(2, error),
            Reply::progress(3, 9),
        ]
        .map(|reply| serde_json::to_string(&reply).expect("serialises"));

        assert_eq!(
            texts,
            [
                r#"{"id":1,"ok":{"transport":"vsock"}}"#,
                r#"{"id":1,"ok":{}}"#,
                r#"{"id":2,"error":{"code":"x","message":"m"}}"#,
                r#"{"id":3,"progress":{"bytes":9}}"#,
            ]
        );
        for text in texts {
            let back: Reply = serde_json::from_str(&text).expect("reads back");
            assert_eq!(serde_json::to_string(&back).expect("serialises"), text);
        }
    }
}
