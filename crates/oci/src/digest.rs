//! Names of content: `sha256:` and 64 lower-case hex digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of some bytes, which names them.
///
/// Source: OCI image specification 1.1, descriptor.md, "Digests".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    /// 64 lower-case hex digits.
    hex: String,
}

/// Why a text is no digest that we can check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Another algorithm.
    #[error("digest {text:?} is not a sha256 digest; no other algorithm is supported")]
    Algorithm {
        /// The digest as it was given, cut to 128 characters.
        text: String,
    },
    /// Not 64 lower-case hex digits.
    #[error("digest {text:?} does not end in 64 lower-case hex digits")]
    Hex {
        /// The digest as it was given, cut to 128 characters.
        text: String,
    },
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// From 64 lower-case hex digits, the form in which file names have it.
    ///
    /// # Errors
    ///
    /// [`DigestError::Hex`].
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != 64 || !hex.bytes().all(digit) {
            return Err(DigestError::Hex { text: shown(hex) });
        }
        Ok(Self { hex: hex.to_owned() })
    }

    /// The 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.strip_prefix("sha256:") {
            Some(hex) => Self::from_hex(hex),
            None => Err(DigestError::Algorithm { text: shown(text) }),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

/// Takes the digest of what passes by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest { hex: bandsox_image::digest::hex(&self.0.finalize()) }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha256_in_lower_case_hex_is_a_digest() {
        let empty = Digest::of(b"");

        assert_eq!(empty.to_string().parse(), Ok(empty.clone()));
        assert!(empty.to_string().ends_with("b855"));
        let refused = |text: &str| text.parse::<Digest>().expect_err("is refused").to_string();
        assert!(refused("sha512:00").contains("not a sha256 digest"));
        assert!(refused(&format!("sha256:{}", "A".repeat(64))).contains("lower-case hex"));
        assert!(refused("sha256:../../etc/passwd").contains("lower-case hex"));
    }
}
