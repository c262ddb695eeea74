//! Can KVM really run a guest here?
//!
//! That `/dev/kvm` opens proves nothing: some hosts offer a KVM that emulates every guest
//! instruction. So a small loop is run and timed.

#![expect(unsafe_code, reason = "KVM takes guest memory by raw address")]
// UNSAFETY: one call, which registers memory that outlives the machine it is given to.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// What a look at KVM found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmReport {
    /// `/dev/kvm` is there and this user may open it.
    pub available: bool,
    /// It runs guest code at a processor's speed.
    pub usable: bool,
    /// Why, in a sentence.
    pub reason: KvmReason,
}

/// The finding behind a [`KvmReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvmReason {
    /// There is no `/dev/kvm`, or this user may not open it.
    NotOpened {
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// It opens, but a step of making a machine fails.
    Broken {
        /// Which step.
        step: &'static str,
        /// The system call's error number.
        errno: i32,
    },
    /// The guest did something else than the probe's program says.
    Misbehaved {
        /// What the guest did.
        seen: String,
    },
    /// It runs the loop, but not at a processor's speed: it emulates.
    Emulates {
        /// Iterations that were run.
        iterations: u64,
        /// How long they took.
        took: Duration,
    },
    /// It runs the loop as fast as a processor does.
    Runs {
        /// Iterations that were run.
        iterations: u64,
        /// How long they took.
        took: Duration,
    },
}

impl fmt::Display for KvmReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpened { kind } => write!(f, "/dev/kvm cannot be opened: {kind}"),
            Self::Broken { step, errno } => {
                write!(f, "{step} fails: {}", io::Error::from_raw_os_error(*errno))
            }
            Self::Misbehaved { seen } => write!(f, "a test program went wrong: {seen}"),
            Self::Emulates { iterations, took } => write!(
                f,
                "it emulates each guest instruction: {iterations} loop iterations took {took:?}"
            ),
            Self::Runs { iterations, took } => {
                write!(f, "{iterations} loop iterations took {took:?}")
            }
        }
    }
}

/// Runs a small 64-bit program under KVM and times it.
///
/// Takes under a millisecond where KVM is real, and some tenths of a second where it emulates.
#[must_use]
pub fn probe_kvm() -> KvmReport {
    let (available, reason) = match Kvm::new() {
        Err(refused) => {
            let kind = io::Error::from_raw_os_error(refused.errno()).kind();
            (false, KvmReason::NotOpened { kind })
        }
        Ok(kvm) => (true, measure(&kvm)),
    };
    KvmReport { available, usable: matches!(reason, KvmReason::Runs { .. }), reason }
}

/// First a few iterations, so that an emulator is found out before it takes long; then more,
/// and the best of three, so that a busy host is not taken for an emulator.
fn measure(kvm: &Kvm) -> KvmReason {
    let mut finding = run_loop(kvm, SHORT_LOOP);
    for _ in 0..3 {
        match finding {
            KvmReason::Runs { .. } => {}
            KvmReason::Emulates { .. }
            | KvmReason::NotOpened { .. }
            | KvmReason::Broken { .. }
            | KvmReason::Misbehaved { .. } => return finding,
        }
        finding = run_loop(kvm, LONG_LOOP);
        if matches!(finding, KvmReason::Runs { .. }) {
            return finding;
        }
    }
    finding
}

const SHORT_LOOP: u32 = 20_000;
const LONG_LOOP: u32 = 2_000_000;

/// Iterations a millisecond between an emulator (some thousand at best) and a processor
/// (hundreds of thousands; tens of thousands when it is itself translated in software).
const PROCESSOR_PER_MS: u128 = 15_000;

fn run_loop(kvm: &Kvm, iterations: u32) -> KvmReason {
    let took = match time_loop(kvm, iterations) {
        Ok(took) => took,
        Err(reason) => return reason,
    };
    let iterations = u64::from(iterations);
    let per_ms = u128::from(iterations) * 1_000_000 / took.as_nanos().max(1);
    if per_ms >= PROCESSOR_PER_MS {
        KvmReason::Runs { iterations, took }
    } else {
        KvmReason::Emulates { iterations, took }
    }
}

fn time_loop(kvm: &Kvm, iterations: u32) -> Result<Duration, KvmReason> {
    let broken =
        |step| move |error: kvm_ioctls::Error| KvmReason::Broken { step, errno: error.errno() };
    let memory = guest_memory()?;
    let vm = kvm.create_vm().map_err(broken("KVM_CREATE_VM"))?;
    let host_address = memory
        .get_host_address(GuestAddress(0))
        .map_err(|_| misbehaved("no memory at guest address 0"))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: GUEST_BYTES as u64,
        userspace_addr: host_address as u64,
    };
    // SAFETY: the region is one live mapping of `memory`, of exactly this length, and `memory`
    // is dropped after `vm`, which is declared later.
    unsafe { vm.set_user_memory_region(region) }.map_err(broken("KVM_SET_USER_MEMORY_REGION"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(broken("KVM_CREATE_VCPU"))?;
    let features = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(broken("KVM_GET_SUPPORTED_CPUID"))?;
    vcpu.set_cpuid2(&features).map_err(broken("KVM_SET_CPUID2"))?;
    enter_long_mode(&vcpu).map_err(broken("KVM_SET_SREGS"))?;
    let registers =
        kvm_regs { rip: CODE, rflags: 2, rcx: u64::from(iterations), ..kvm_regs::default() };
    vcpu.set_regs(&registers).map_err(broken("KVM_SET_REGS"))?;

    let begun = Instant::now();
    match vcpu.run() {
        Ok(VcpuExit::Hlt) => {}
        Ok(other) => return Err(misbehaved(&format!("{other:?}"))),
        Err(error) => return Err(broken("KVM_RUN")(error)),
    }
    let took = begun.elapsed();

    let after = vcpu.get_regs().map_err(broken("KVM_GET_REGS"))?;
    if after.rcx == 0 && after.rax == MARK {
        Ok(took)
    } else {
        Err(misbehaved(&format!("rcx {:#x}, rax {:#x} at its end", after.rcx, after.rax)))
    }
}

fn misbehaved(seen: &str) -> KvmReason {
    KvmReason::Misbehaved { seen: seen.to_owned() }
}

const GUEST_BYTES: usize = 64 << 10;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PAGE_DIRECTORY: u64 = 0x3000;
const CODE: u64 = 0x4000;
const MARK: u64 = 0x0b5d;

/// Counts `rcx` down to zero, leaves [`MARK`] in `rax`, halts.
const PROGRAM: [u8; 11] = [
    0x48, 0xff, 0xc9, // dec rcx
    0x75, 0xfb, // jnz to the dec
    0xb8, 0x5d, 0x0b, 0x00, 0x00, // mov eax, 0xb5d
    0xf4, // hlt
];

fn guest_memory() -> Result<GuestMemoryMmap, KvmReason> {
    let failed = |_| misbehaved("its memory cannot be written");
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), GUEST_BYTES)])
        .map_err(|_| misbehaved("no memory for it"))?;
    // Present and writable entries; the last maps the first 2 MiB as one page.
    memory.write_obj(PDPT | 0b11, GuestAddress(PML4)).map_err(failed)?;
    memory.write_obj(PAGE_DIRECTORY | 0b11, GuestAddress(PDPT)).map_err(failed)?;
    memory.write_obj(0b1000_0011_u64, GuestAddress(PAGE_DIRECTORY)).map_err(failed)?;
    memory.write_slice(&PROGRAM, GuestAddress(CODE)).map_err(failed)?;
    Ok(memory)
}

/// Puts the virtual CPU into 64-bit mode with flat segments, as its kernel would have.
///
/// Source: Intel SDM volume 3, section 10.8.5 (control bits) and 3.4.5 (descriptor types).
fn enter_long_mode(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    const PROTECTED_AND_PAGING: u64 = 1 | 1 << 31;
    const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    const LONG_MODE_ENABLED_AND_ACTIVE: u64 = 1 << 8 | 1 << 10;

    let data = kvm_segment {
        limit: u32::MAX,
        selector: 0x10,
        type_: 3,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let code = kvm_segment { selector: 8, type_: 11, db: 0, l: 1, ..data };
    let mut special = vcpu.get_sregs()?;
    special.cs = code;
    special.ds = data;
    special.es = data;
    special.fs = data;
    special.gs = data;
    special.ss = data;
    special.cr3 = PML4;
    special.cr4 = PHYSICAL_ADDRESS_EXTENSION;
    special.efer = LONG_MODE_ENABLED_AND_ACTIVE;
    special.cr0 = PROTECTED_AND_PAGING;
    vcpu.set_sregs(&special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_is_called_usable_ran_the_program() {
        let report = probe_kvm();

        println!("{report:?}: {}", report.reason);
        assert_eq!(report.usable, matches!(report.reason, KvmReason::Runs { .. }));
        assert!(report.available || !report.usable);
    }
}
