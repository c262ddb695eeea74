//! The name that a person gives a VM.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name for a VM, unique within one storage directory.
///
/// Shape: 1 to 63 bytes of `A–Z a–z 0–9 _ . -`, starting with a letter or a digit. Such a name is
/// also a valid host name's label or nearly one, and needs no quoting in a shell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// Longest name, in bytes: that of one label of a host name (RFC 1035, section 2.3.4).
    pub const MAX_BYTES: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmName {
    type Err = VmNameError;

    fn from_str(text: &str) -> Result<Self, VmNameError> {
        let Some(first) = text.chars().next() else {
            return Err(VmNameError::Empty);
        };
        if text.len() > Self::MAX_BYTES {
            return Err(VmNameError::TooLong { bytes: text.len() });
        }
        if !first.is_ascii_alphanumeric() {
            return Err(VmNameError::BadStart { found: first });
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c))) {
            Some(found) => Err(VmNameError::BadCharacter { found }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for VmName {
    type Error = VmNameError;

    fn try_from(text: String) -> Result<Self, VmNameError> {
        text.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

impl AsRef<str> for VmName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is no name for a VM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VmNameError {
    /// There is no text.
    #[error("a VM name is empty; want 1 to {} characters", VmName::MAX_BYTES)]
    Empty,
    /// Longer than a host name's label may be.
    #[error("a VM name of {bytes} bytes is too long; want 1 to {}", VmName::MAX_BYTES)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The first character is none that a name may start with.
    #[error("a VM name starts with {found:?}; want a letter or a digit")]
    BadStart {
        /// The first character.
        found: char,
    },
    /// A character outside the alphabet.
    #[error("a VM name contains {found:?}; want only letters, digits, '_', '.' and '-'")]
    BadCharacter {
        /// The first such character.
        found: char,
    },
}

/// Whether `name` can stand on a kernel's command line and be a host name (RFC 1123, section 2.1). Metadata are edited by
/// people, older versions let a name be anything, and an image's author may write anything.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_no_quoting_are_accepted() {
        for text in ["web", "my-new-vm", "a", "0", "db_1.prod"] {
            assert_eq!(text.parse::<VmName>().map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn names_that_would_surprise_a_shell_or_a_file_system_are_refused() {
        for text in ["", ".", "..", "-f", "a b", "a/b", "a\nb", "ä", "_x", "a\u{1b}[31m"] {
            assert!(text.parse::<VmName>().is_err(), "{text:?} was accepted");
        }
        assert_eq!("n".repeat(64).parse::<VmName>(), Err(VmNameError::TooLong { bytes: 64 }));
    }

    #[test]
    fn a_name_that_would_add_kernel_parameters_is_no_host_name() {
        assert!(is_host_name("web-1.example"));
        for bad in ["", "a b", "x init=/bin/sh", "-x", "a\nb", &"a".repeat(64)] {
            assert!(!is_host_name(bad), "{bad:?}");
        }
    }
}
