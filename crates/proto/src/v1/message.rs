//! The lines of protocol v1.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// One line, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Host → guest: a file follows.
    Upload {
        /// Where to, in the guest.
        path: Cow<'a, str>,
        /// Its length in bytes.
        size: u64,
        /// Its MD5, lower-case hexadecimal.
        checksum: Cow<'a, str>,
    },
    /// Host → guest: send a file.
    Download {
        /// Which, in the guest.
        path: Cow<'a, str>,
    },
    /// Guest → host: go on with the upload.
    Ready {
        /// The path of the upload.
        path: Cow<'a, str>,
    },
    /// Either way: a piece of the file.
    Chunk {
        /// Base64; see [`crate::v1::decode_data`].
        data: Cow<'a, str>,
        /// Raw bytes in it.
        size: u64,
        /// Where they belong, in bytes from the start.
        offset: u64,
    },
    /// Guest → host: that chunk has arrived.
    Ack {
        /// Bytes so far.
        bytes: u64,
    },
    /// Host → guest: all has been sent.
    Verify,
    /// Guest → host: the transfer is done and, for an upload, in place.
    Complete {
        /// Length in bytes.
        size: u64,
        /// MD5, lower-case hexadecimal.
        checksum: Cow<'a, str>,
    },
    /// Either way: it failed.
    Error {
        /// Why, in one line.
        error: Cow<'a, str>,
    },
}

/// Why a line is not a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Not a JSON object with fields of the right types.
    #[error("line is not a message of protocol v1")]
    Json(#[from] serde_json::Error),
    /// An object with another `type`, or with none.
    #[error("message type {found:?} is unknown")]
    Type {
        /// The type's first 32 characters.
        found: String,
    },
    /// A field that the type needs is missing.
    #[error("message {kind:?} has no {field:?}")]
    Missing {
        /// The message's type.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Data that is not base64 of the standard alphabet with padding.
    #[error("chunk is not base64")]
    Base64,
    /// A chunk whose `size` is not the number of bytes in it.
    #[error("chunk says {size} bytes and holds {found}")]
    ChunkSize {
        /// What it says.
        size: u64,
        /// What it holds.
        found: usize,
    },
    /// A chunk larger than allowed.
    #[error("chunk of {size} bytes; at most {max} are allowed", max = crate::v1::CHUNK)]
    ChunkTooLong {
        /// What it says.
        size: u64,
    },
}

/// All fields of all messages. One flat structure is read in one pass over the line, without a copy of the data;
/// serde's tagged enums buffer every field first.
#[derive(Deserialize, Serialize)]
struct Line<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    checksum: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    /// Reads one line, given without its newline. Unknown fields are ignored.
    ///
    /// # Errors
    ///
    /// See [`Malformed`].
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let Line { kind, path, data, size, offset, bytes, checksum, error } =
            serde_json::from_slice(line)?;
        let missing = |kind, field| Malformed::Missing { kind, field };
        Ok(match &*kind {
            "upload" => Self::Upload {
                path: path.ok_or(missing("upload", "path"))?,
                size: size.ok_or(missing("upload", "size"))?,
                checksum: checksum.ok_or(missing("upload", "checksum"))?,
            },
            "download" => Self::Download { path: path.ok_or(missing("download", "path"))? },
            "ready" => Self::Ready { path: path.unwrap_or_default() },
            "chunk" => Self::Chunk {
                data: data.ok_or(missing("chunk", "data"))?,
                size: size.ok_or(missing("chunk", "size"))?,
                offset: offset.ok_or(missing("chunk", "offset"))?,
            },
            "ack" => Self::Ack { bytes: bytes.ok_or(missing("ack", "bytes"))? },
            "verify" => Self::Verify,
            "complete" => Self::Complete {
                size: size.ok_or(missing("complete", "size"))?,
                checksum: checksum.unwrap_or_default(),
            },
            "error" => Self::Error { error: error.ok_or(missing("error", "error"))? },
            other => return Err(Malformed::Type { found: other.chars().take(32).collect() }),
        })
    }
}

/// Appends `message` as one line, newline included, to `out`. For bulk, [`crate::v1::encode_chunk`] is faster.
pub fn encode_message(message: &Message<'_>, out: &mut String) {
    let empty = Line {
        kind: Cow::Borrowed(""),
        path: None,
        data: None,
        size: None,
        offset: None,
        bytes: None,
        checksum: None,
        error: None,
    };
    let named = |kind: &'static str| Cow::Borrowed(kind);
    let some = |text: &Cow<'_, str>| Some(Cow::Owned(text.to_string()));
    let line = match message {
        Message::Upload { path, size, checksum } => Line {
            kind: named("upload"),
            path: some(path),
            size: Some(*size),
            checksum: some(checksum),
            ..empty
        },
        Message::Download { path } => Line { kind: named("download"), path: some(path), ..empty },
        Message::Ready { path } => Line { kind: named("ready"), path: some(path), ..empty },
        Message::Chunk { data, size, offset } => Line {
            kind: named("chunk"),
            data: some(data),
            size: Some(*size),
            offset: Some(*offset),
            ..empty
        },
        Message::Ack { bytes } => Line { kind: named("ack"), bytes: Some(*bytes), ..empty },
        Message::Verify => Line { kind: named("verify"), ..empty },
        Message::Complete { size, checksum } => {
            Line { kind: named("complete"), size: Some(*size), checksum: some(checksum), ..empty }
        }
        Message::Error { error } => Line { kind: named("error"), error: some(error), ..empty },
    };
    let text = serde_json::to_string(&line);
    out.push_str(&text.expect("a structure of strings and numbers always serialises"));
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_spelled_as_the_guide_has_them() {
        let cases = [
            (
                Message::Upload { path: "/tmp/a".into(), size: 14, checksum: "ab".into() },
                r#"{"type":"upload","path":"/tmp/a","size":14,"checksum":"ab"}"#,
            ),
            (Message::Ready { path: "/tmp/a".into() }, r#"{"type":"ready","path":"/tmp/a"}"#),
            (Message::Ack { bytes: 3 }, r#"{"type":"ack","bytes":3}"#),
            (Message::Verify, r#"{"type":"verify"}"#),
            (
                Message::Complete { size: 3, checksum: "cd".into() },
                r#"{"type":"complete","size":3,"checksum":"cd"}"#,
            ),
            (Message::Download { path: "/x".into() }, r#"{"type":"download","path":"/x"}"#),
            (Message::Error { error: "a \"b\"".into() }, r#"{"type":"error","error":"a \"b\""}"#),
        ];
        for (message, text) in cases {
            let mut line = String::new();
            encode_message(&message, &mut line);

            assert_eq!(line.trim_end(), text);
            assert_eq!(Message::parse(text.as_bytes()).expect("our own line"), message);
        }
    }

    #[test]
    fn a_line_with_a_missing_field_names_it() {
        let error = Message::parse(br#"{"type":"upload","path":"/a"}"#).expect_err("no size");

        assert_eq!(error.to_string(), r#"message "upload" has no "size""#);
    }
}
