//! The identifier of a VM.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identifies a VM for its whole life; also the stem of its files' names.
///
/// New ones are lower-case hexadecimal. Metadata of older versions may use any token, a UUID for
/// instance, so that the alphabet is wider than what we make.
///
/// Shape: 1 to 64 bytes of `A–Z a–z 0–9 _ -`, not starting with `-`. Hence never a path: no `/`,
/// no `.`, and never mistaken for an option. What [`VmId::RESERVED`] lists is taken by files that lie
/// beside those of VMs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmId(String);

impl VmId {
    /// Longest identifier, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Beginnings that no identifier may have: `locks/store.lock` and `disks/template-….ext4` are
    /// no VM's.
    pub const RESERVED: [&str; 2] = ["store", "template"];

    /// A fresh identifier made of random bytes, as twice as many hexadecimal digits.
    #[must_use]
    pub fn from_random(bytes: [u8; 6]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmId {
    type Err = VmIdError;

    fn from_str(text: &str) -> Result<Self, VmIdError> {
        if text.is_empty() {
            return Err(VmIdError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(VmIdError::TooLong { bytes: text.len() });
        }
        if text.starts_with('-') {
            return Err(VmIdError::LeadingDash);
        }
        if let Some(word) = Self::RESERVED.into_iter().find(|word| text.starts_with(word)) {
            return Err(VmIdError::Reserved { word });
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-')) {
            Some(found) => Err(VmIdError::BadCharacter { found }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for VmId {
    type Error = VmIdError;

    fn try_from(text: String) -> Result<Self, VmIdError> {
        text.parse()
    }
}

impl From<VmId> for String {
    fn from(id: VmId) -> Self {
        id.0
    }
}

impl AsRef<str> for VmId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is no VM identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VmIdError {
    /// There is no text.
    #[error("a VM id is empty; want 1 to {} characters", VmId::MAX_BYTES)]
    Empty,
    /// Longer than a file name can bear with what is appended to it.
    #[error("a VM id of {bytes} bytes is too long; want 1 to {}", VmId::MAX_BYTES)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It would read as an option on a command line.
    #[error("a VM id starts with '-'")]
    LeadingDash,
    /// The name of a file that belongs to no VM.
    #[error("a VM id starts with the reserved word {word:?}")]
    Reserved {
        /// The word.
        word: &'static str,
    },
    /// A character outside the alphabet.
    #[error("a VM id contains {found:?}; want only letters, digits, '_' and '-'")]
    BadCharacter {
        /// The first such character.
        found: char,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_never_an_id() {
        for text in ["../x", "a/b", ".", "..", "a.b", "", "-rf", "a b", "a\0", "é"] {
            assert!(text.parse::<VmId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_id_never_names_a_file_that_belongs_to_no_vm() {
        for text in ["store", "template-512"] {
            assert!(matches!(text.parse::<VmId>(), Err(VmIdError::Reserved { .. })), "{text:?}");
        }
    }

    #[test]
    fn ids_of_older_versions_are_accepted() {
        for text in ["0af3", "6f1c2b7e-8a1d-4c55-9d0e-000000000000", "my_vm-1"] {
            assert_eq!(text.parse::<VmId>().map(String::from), Ok(text.to_owned()));
        }
        assert!("x".repeat(64).parse::<VmId>().is_ok());
        assert_eq!("x".repeat(65).parse::<VmId>(), Err(VmIdError::TooLong { bytes: 65 }));
    }

    #[test]
    fn a_fresh_id_is_twelve_hexadecimal_digits() {
        assert_eq!(VmId::from_random([0, 1, 0xab, 0xff, 16, 9]).as_str(), "0001abff1009");
    }
}
