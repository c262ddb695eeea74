//! What a client asks a monitor.

use serde::{Deserialize, Serialize};

use crate::control::PathB64;

/// The client's first packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// What it speaks.
    pub hello: Versions,
}

/// The versions that a client speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// All of them; today `[1]`.
    pub versions: Vec<u32>,
}

/// The monitor's answer to [`ClientHello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorHello {
    /// Wrapped as on the wire.
    pub hello: Chosen,
}

/// What the monitor chose, and who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The version both will speak.
    pub version: u32,
    /// The monitor's program version.
    pub monitor: String,
    /// The VM's id.
    pub vm: String,
}

/// One request; its reply carries the same `id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, unique among its open requests.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub op: Op,
}

/// How a channel gets to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// virtio-vsock.
    Vsock,
    /// A stream of the serial mux.
    Serial,
}

/// What a client moved by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferEvent {
    /// Host → guest.
    Upload,
    /// Guest → host.
    Download,
}

/// The requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// → [`crate::control::Status`].
    Status,
    /// Hold the VM → [`crate::control::Nothing`].
    Pause,
    /// Let it run on → [`crate::control::Nothing`].
    Resume,
    /// Ask the guest to power off → [`crate::control::Nothing`] once it is off.
    Stop {
        /// Milliseconds until it is killed.
        timeout_ms: u64,
    },
    /// Stop it at once → [`crate::control::Nothing`].
    Kill,
    /// A byte stream to the agent → [`crate::control::Opened`], and its descriptor with the reply.
    OpenChannel {
        /// Over this only; without, vsock if it works.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<Transport>,
    },
    /// A regular file, readable, comes as descriptor with the request → [`crate::control::Stored`].
    PutFile {
        /// Guest path.
        path_b64: PathB64,
        /// With it, a path that is a directory means this name inside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name_b64: Option<PathB64>,
        /// Permission bits.
        mode: u32,
        /// Nanoseconds since 1970.
        mtime_ns: i64,
        /// Owner in the guest, if not root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group in the guest, if not root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
        /// Length in bytes.
        size: u64,
        /// Over this only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<Transport>,
    },
    /// A regular file, writable and empty, comes as descriptor with the request → [`crate::control::Fetched`].
    GetFile {
        /// Guest path.
        path_b64: PathB64,
        /// Over this only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<Transport>,
    },
    /// The client moved files itself; the monitor writes the log line → [`crate::control::Nothing`].
    Note {
        /// Which way.
        event: TransferEvent,
        /// Over what.
        transport: Transport,
        /// Guest path.
        path_b64: PathB64,
        /// How many bytes.
        bytes: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ByteString;

    #[test]
    fn requests_are_spelled_as_the_contract_has_them() {
        let stop = Request { id: 3, op: Op::Stop { timeout_ms: 10 } };
        let open = Request { id: 4, op: Op::OpenChannel { transport: Some(Transport::Serial) } };
        let get = Request {
            id: 5,
            op: Op::GetFile { path_b64: PathB64(ByteString::from("/a")), transport: None },
        };

        let texts = [stop, open, get].map(|r| serde_json::to_string(&r).expect("serialises"));

        assert_eq!(
            texts,
            [
                r#"{"id":3,"op":"stop","timeout_ms":10}"#,
                r#"{"id":4,"op":"open_channel","transport":"serial"}"#,
                r#"{"id":5,"op":"get_file","path_b64":"L2E="}"#,
            ]
        );
        for text in texts {
            let back: Request = serde_json::from_str(&text).expect("reads back");
            assert_eq!(serde_json::to_string(&back).expect("serialises"), text);
        }
    }
}
