//! Guest paths within JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ByteString;

/// A guest path, which need not be UTF-8, as a base64 string (standard alphabet, padding).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathB64(pub ByteString);

impl Serialize for PathB64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for PathB64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        Ok(Self(ByteString::from(bytes)))
    }
}
