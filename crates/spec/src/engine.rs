//! Which engine runs a VM.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The engine asked for when a VM is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// Whatever runs the guest best on the host it is started on.
    #[default]
    Auto,
    /// QEMU as a child process, with KVM or without.
    Qemu,
    /// The machine inside the monitor, which needs a KVM that really runs guests.
    Kvm,
}

impl EngineChoice {
    /// The choice as it is spelled in metadata and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Qemu => "qemu",
            Self::Kvm => "kvm",
        }
    }
}

impl FromStr for EngineChoice {
    type Err = EngineChoiceError;

    fn from_str(text: &str) -> Result<Self, EngineChoiceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "qemu" => Ok(Self::Qemu),
            "kvm" => Ok(Self::Kvm),
            _ => Err(EngineChoiceError { found: text.chars().take(40).collect() }),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no engine of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown engine {found:?}; want auto, qemu or kvm")]
pub struct EngineChoiceError {
    /// What was asked for; cut off when long.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_is_parsed_from_its_own_spelling() {
        for engine in [EngineChoice::Auto, EngineChoice::Qemu, EngineChoice::Kvm] {
            assert_eq!(engine.as_str().parse(), Ok(engine));
            assert_eq!(serde_json::to_value(engine).ok(), Some(engine.as_str().into()));
        }
    }

    #[test]
    fn an_unknown_engine_is_refused_with_the_ones_there_are() {
        let refusal = "xen".parse::<EngineChoice>().expect_err("no such engine");

        assert_eq!(refusal.to_string(), "unknown engine \"xen\"; want auto, qemu or kvm");
    }
}
