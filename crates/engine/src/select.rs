//! From the engine that was asked for to what will run.

use std::fmt;

use bandsox_spec::EngineChoice;

use crate::kvm::KvmReport;

/// How QEMU executes guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Translation in software; works everywhere and needs no privilege.
    Tcg,
    /// The processor's virtualization, through `/dev/kvm`.
    Kvm,
}

impl Accelerator {
    /// The name that QEMU and `doctor` use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Chooses what runs a machine for which `choice` was asked, on a host where KVM was found to
/// be as `kvm` says.
///
/// # Errors
///
/// [`EngineUnavailable`] when `choice` names an engine that this build does not have.
pub fn select(choice: EngineChoice, kvm: &KvmReport) -> Result<Accelerator, EngineUnavailable> {
    match choice {
        EngineChoice::Kvm => Err(EngineUnavailable),
        EngineChoice::Auto | EngineChoice::Qemu => {
            Ok(if kvm.usable { Accelerator::Kvm } else { Accelerator::Tcg })
        }
    }
}

/// The `kvm` engine was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine kvm does not exist yet; use --engine auto or --engine qemu")]
pub struct EngineUnavailable;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::*;
    use crate::kvm::KvmReason;

    #[test]
    fn kvm_accelerates_only_where_it_was_proven() {
        let none = KvmReport {
            available: false,
            usable: false,
            reason: KvmReason::NotOpened { kind: ErrorKind::NotFound },
        };
        let real = KvmReport {
            available: true,
            usable: true,
            reason: KvmReason::Runs { iterations: 1, took: Duration::from_nanos(1) },
        };

        assert_eq!(select(EngineChoice::Auto, &none), Ok(Accelerator::Tcg));
        assert_eq!(select(EngineChoice::Qemu, &real), Ok(Accelerator::Kvm));
        assert_eq!(select(EngineChoice::Kvm, &real), Err(EngineUnavailable));
    }
}
