//! The CPU that a guest sees.
//!
//! Spelled out, never `max` or `host`: a saved machine must find the same CPU wherever it is
//! loaded. `docs/design/tcg-cpu.md` has the measurements behind the list.

use bandsox_engine::Accelerator;

/// `-cpu` for software translation: what QEMU 7.2 can translate and a guest gains from.
///
/// Left out on purpose: `erms` and `fsrm`, which make a kernel copy by `rep movsb`, translated
/// byte by byte.
const TCG: &str = "Nehalem-v1";

/// `-cpu` under KVM: a model of 2008 that every processor with virtualization can be, less what
/// belongs to one maker.
const KVM: &str = "Nehalem-v1";

pub(crate) fn model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Tcg => TCG,
        Accelerator::Kvm => KVM,
    }
}
