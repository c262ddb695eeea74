//! Environment variables of what runs in a VM.

use std::fmt;
use std::str::FromStr;

/// One environment variable, as given by `-e KEY=VALUE`.
///
/// Shape: the key is not empty and holds neither `=` nor NUL; the value holds no NUL. The value is
/// a secret as far as anyone knows, so that `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    key: String,
    value: String,
}

impl EnvVar {
    /// Puts a variable together.
    ///
    /// # Errors
    ///
    /// [`EnvVarError`] if the key or the value is none that a process can be given.
    pub fn new(key: &str, value: &str) -> Result<Self, EnvVarError> {
        if key.is_empty() {
            return Err(EnvVarError::EmptyKey);
        }
        if key.contains('=') {
            return Err(EnvVarError::EqualsInKey { key: key.to_owned() });
        }
        if key.contains('\0') || value.contains('\0') {
            return Err(EnvVarError::Nul { key: key.replace('\0', "\\0") });
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }

    /// What the variable is called.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it is set to.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for EnvVar {
    type Err = EnvVarError;

    fn from_str(text: &str) -> Result<Self, EnvVarError> {
        match text.split_once('=') {
            Some((key, value)) => Self::new(key, value),
            None => Err(EnvVarError::NoEquals { text: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvVar({}=…)", self.key)
    }
}

/// Why a text is no environment variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvVarError {
    /// Only a key, or nothing.
    #[error("{text:?} has no '='; want KEY=VALUE")]
    NoEquals {
        /// What was there; cut off when long.
        text: String,
    },
    /// Nothing before the `=`.
    #[error("an environment variable has no name; want KEY=VALUE")]
    EmptyKey,
    /// The key could not be told from the value.
    #[error("the environment variable name {key:?} contains '='")]
    EqualsInKey {
        /// The key.
        key: String,
    },
    /// A process's environment ends at a NUL.
    #[error("the environment variable {key:?} contains a NUL character")]
    Nul {
        /// The key.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_ends_the_key() {
        let variable: EnvVar = "OPTS=a=b=c".parse().expect("a valid variable");

        assert_eq!((variable.key(), variable.value()), ("OPTS", "a=b=c"));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        assert_eq!("K=".parse::<EnvVar>().map(|v| v.value().to_owned()), Ok(String::new()));
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        for text in ["K", "", "=v", "K\0=v", "K=v\0w"] {
            assert!(text.parse::<EnvVar>().is_err(), "{text:?} was accepted");
        }
        assert!(EnvVar::new("A=B", "c").is_err());
    }

    #[test]
    fn a_value_does_not_show_in_debug_output() {
        let variable: EnvVar = "TOKEN=hunter2".parse().expect("a valid variable");

        assert!(!format!("{variable:?}").contains("hunter2"));
    }
}
