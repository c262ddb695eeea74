//! For which machine an image is, and which one of an index is for ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and perhaps a variant of it, in Go's words: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("platform {text:?} is not os/architecture or os/architecture/variant, as in linux/amd64")]
pub struct PlatformError {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl Platform {
    /// From the words that an index or a config has; machine names of the kernel become those of Go.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_owned);
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// Whether something for `other` is what is wanted. A variant counts where both name one.
    #[must_use]
    pub fn accepts(&self, other: &Self) -> bool {
        let variants = self.variant.as_ref().zip(other.variant.as_ref());
        self.os == other.os
            && self.architecture == other.architecture
            && variants.is_none_or(|(wanted, given)| wanted == given)
    }

    /// How well `other`, which is accepted, fits; less is better.
    pub(crate) fn distance(&self, other: &Self) -> u8 {
        let usual = match other.architecture.as_str() {
            "arm64" => Some("v8"),
            "arm" => Some("v7"),
            _ => None,
        };
        if self.variant == other.variant {
            0
        } else if self.variant.is_none() && other.variant.as_deref() == usual {
            1
        } else {
            2
        }
    }
}

impl Default for Platform {
    /// `linux/amd64`.
    fn default() -> Self {
        Self::new("linux", "amd64", None)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError { text: text.chars().take(64).collect() };
        let word = |word: &&str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !word.is_empty() && word.len() <= 32 && word.bytes().all(fits)
        };
        let words: Vec<&str> = text.splitn(4, '/').collect();
        if !words.iter().all(word) {
            return Err(error());
        }
        match words.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect("is a platform")
    }

    #[test]
    fn a_variant_counts_only_where_both_name_one() {
        assert!(platform("linux/arm64").accepts(&platform("linux/arm64/v8")));
        assert!(platform("linux/arm/v7").accepts(&platform("linux/arm")));
        assert!(!platform("linux/arm/v7").accepts(&platform("linux/arm/v6")));
        assert!(!platform("linux/amd64").accepts(&platform("windows/amd64")));
        assert_eq!(platform("linux/x86_64"), Platform::default());
    }

    #[test]
    fn a_text_of_another_shape_is_refused() {
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/amd 64", "/amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?} was taken");
        }
    }
}
