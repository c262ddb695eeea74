//! What QEMU sends, decoded. QEMU may have been taken over by its guest: nothing here is
//! believed beyond its shape.

use std::fmt;
use std::io;

use serde_json::Value;

/// One line from QEMU.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// The first line.
    Greeting(Version),
    /// Answer to the command of that id.
    Reply {
        /// The command's id, if QEMU could read it.
        id: Option<u64>,
        /// What it returned.
        result: Result<Value, Refusal>,
    },
    /// Something happened.
    Event(Event),
}

/// QEMU's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
    /// Third number.
    pub micro: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// QEMU's class of errors; `GenericError` for nearly all.
    pub class: String,
    /// What QEMU says about it.
    pub description: String,
}

/// An event, by name, with its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name, such as `DEVICE_DELETED`.
    pub name: String,
    /// What comes with it; `Null` without.
    pub data: Value,
}

impl Message {
    /// Decodes one line.
    ///
    /// # Errors
    ///
    /// `InvalidData` for anything that is no message.
    pub fn decode(line: &[u8]) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let value: Value = serde_json::from_slice(line).map_err(|_| invalid())?;
        if let Some(greeting) = value.get("QMP") {
            let version = greeting.pointer("/version/qemu").ok_or_else(invalid)?;
            let number = |name| version.get(name).and_then(Value::as_u64).ok_or_else(invalid);
            let version = Version {
                major: number("major")?,
                minor: number("minor")?,
                micro: number("micro")?,
            };
            return Ok(Self::Greeting(version));
        }
        if let Some(name) = value.get("event").and_then(Value::as_str) {
            let data = value.get("data").cloned().unwrap_or(Value::Null);
            return Ok(Self::Event(Event { name: name.to_owned(), data }));
        }
        let id = value.get("id").and_then(Value::as_u64);
        if let Some(returned) = value.get("return") {
            return Ok(Self::Reply { id, result: Ok(returned.clone()) });
        }
        let error = value.get("error").ok_or_else(invalid)?;
        let text = |name| error.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let refusal = Refusal { class: text("class"), description: text("desc") };
        Ok(Self::Reply { id, result: Err(refusal) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_tells_the_version() {
        let line = br#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;

        let message = Message::decode(line).expect("a greeting of QEMU 7.2");

        assert_eq!(message, Message::Greeting(Version { major: 7, minor: 2, micro: 22 }));
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let line = br#"{"id": 7, "error": {"class": "DeviceNotFound", "desc": "no vsock"}}"#;

        let message = Message::decode(line).expect("an error reply");

        let refusal =
            Refusal { class: "DeviceNotFound".to_owned(), description: "no vsock".to_owned() };
        assert_eq!(message, Message::Reply { id: Some(7), result: Err(refusal) });
    }

    #[test]
    fn nonsense_is_refused_and_not_taken_for_a_message() {
        for line in [&b"{}"[..], b"[]", b"\xff", b"{\"QMP\": 3}", b""] {
            assert!(Message::decode(line).is_err(), "{line:?}");
        }
    }
}
