//! The CPU that a guest sees.
//!
//! Spelled out, never `max` or `host`: a saved machine must find the same CPU wherever it is
//! loaded. `docs/design/0003-tcg-cpu.md` has the measurements behind the list.

use bandsox_engine::Accelerator;

/// The model that both lists build on: an AMD processor of family 15. The kernel takes it to be
/// free of Meltdown, so it does not exchange page tables at every system call, which under
/// translation costs 25 times the call itself.
const BASE: &str = "qemu64-v1";

/// What QEMU 7.2 translates and x86-64-v3 asks for, and a few that kernels like. `enforce` has
/// a QEMU that lacks one refuse to start, rather than give a guest less than was recorded.
///
/// Left out on purpose: `erms` and `fsrm`, by which a kernel copies with `rep movsb`, translated
/// byte by byte; `la57`, a longer walk for each miss of the translation buffer; `svm`.
const TCG: &[&str] = &[
    "svm=off",
    // x86-64-v2
    "ssse3=on",
    "sse4.1=on",
    "sse4.2=on",
    "popcnt=on",
    // x86-64-v3
    "xsave=on",
    "avx=on",
    "avx2=on",
    "f16c=on",
    "fma=on",
    "bmi1=on",
    "bmi2=on",
    "abm=on",
    "movbe=on",
    // Beyond the levels
    "aes=on",
    "pclmulqdq=on",
    "adx=on",
    "rdrand=on",
    "rdtscp=on",
    "fsgsbase=on",
    "xsaveopt=on",
    "xgetbv1=on",
    "clflushopt=on",
    "clwb=on",
    "pdpe1gb=on",
    "arat=on",
    "smep=on",
    "smap=on",
    "umip=on",
    "enforce=on",
];

/// What every processor with virtualization has, from either maker: x86-64-v2. QEMU gives the
/// guest its host's maker, so that it protects itself from that maker's flaws.
const KVM: &[&str] = &["svm=off", "ssse3=on", "sse4.1=on", "sse4.2=on", "popcnt=on", "enforce=on"];

/// The value of `-cpu`.
pub fn cpu_model(accelerator: Accelerator) -> String {
    let features = match accelerator {
        Accelerator::Tcg => TCG,
        Accelerator::Kvm => KVM,
    };
    let mut words = vec![BASE];
    words.extend(features);
    words.join(",")
}
