//! Which of QEMU's properties a guest can see, and which follow from which.
//!
//! Source: the property lists of QEMU 7.2 and 10.0 (`-device TYPE,help`, `qom-list`), each compared with what the
//! device shows on its registers. Everything that is not named here counts as the guest's business.

use serde_json::{Value, json};

use crate::qom::Node;

/// Parts of `smp`, in QEMU's words.
pub(crate) const TOPOLOGY: &[&str] =
    &["cpus", "maxcpus", "sockets", "dies", "clusters", "modules", "cores", "threads"];

/// Switches of the board that change what the guest finds.
pub(crate) const BOARD: &[&str] = &[
    "acpi",
    "hpet",
    "i8042",
    "ioapic2",
    "isa-serial",
    "max-ram-below-4g",
    "nvdimm",
    "pcie",
    "pic",
    "pit",
    "rtc",
    "sata",
    "smbus",
    "smm",
    "usb",
    "vmport",
    "x-oem-id",
    "x-oem-table-id",
];

/// Capabilities of a migration that source and destination must have alike: they change what is sent, or what is not.
pub(crate) const CAPABILITIES: &[&str] = &[
    "compress",
    "dirty-bitmaps",
    "mapped-ram",
    "multifd",
    "postcopy-preempt",
    "postcopy-ram",
    "rdma-pin-all",
    "switchover-ack",
    "x-colo",
    "x-ignore-shared",
];

/// What says which CPU it is, besides its features.
pub(crate) const CPU_IDENTITY: &[&str] = &[
    "family",
    "model",
    "stepping",
    "vendor",
    "model-id",
    "level",
    "xlevel",
    "level-func7",
    "phys-bits",
    "tsc-frequency",
    "pmu",
    "cache-topology",
];

/// Properties that firmware or the guest set: state, which is sent.
const SET_BY_GUEST: &[&str] = &["busnr"];

/// Properties that say how the host serves a device, not what the guest sees of it.
const HOSTS: &[&str] = &[
    "account-failed",
    "account-invalid",
    "audiodev",
    "backend_defaults",
    "bootindex",
    "chardev",
    "ebpf-rss-fds",
    "failover_pair_id",
    "guest-stats",
    "guest-stats-polling-interval",
    "ioeventfd",
    "iothread",
    "iothread-vq-mapping",
    "logfile",
    "memdev",
    "netdev",
    "period",
    "queue-mapping",
    "request-merging",
    "rerror",
    "rng",
    "romfile",
    "romsize",
    "share-rw",
    "stats-account-invalid",
    "tx",
    "vhostfd",
    "werror",
    "write-cache",
    "x-ignore-backend-features",
    "x-txburst",
    "x-txtimer",
];

/// Board parts that appear as PCI devices. Which machine has which, its type says.
const CHIPSET: &[&str] = &[
    "ICH9-LPC",
    "ICH9-SMB",
    "PIIX3",
    "PIIX3-xen",
    "PIIX4_PM",
    "i440FX",
    "ich9-ahci",
    "mch",
    "piix3-ide",
    "piix3-usb-uhci",
];

/// CPU switches that are no features of the CPU.
const NO_FEATURES: &[&str] = &[
    "check",
    "cpuid-0xb",
    "enforce",
    "fill-mtrr-mask",
    "full-cpuid-auto-level",
    "host-cache-info",
    "host-phys-bits",
    "hotpluggable",
    "hotplugged",
    "kvm",
    "kvm-no-smi-migration",
    "l3-cache",
    "legacy-cache",
    "lmce",
    "migratable",
    "realized",
    "start-powered-off",
    "tcg-cpuid",
    "vmware-cpuid-freq",
    "x-amd-topoext-features-only",
    "x-consistent-cache",
    "x-force-features",
    "x-intel-pt-auto-level",
    "x-l1-cache-per-thread",
    "x-migrate-smi-count",
    "x-vendor-cpuid-only",
];

/// What the parts of `smp` are called in a contract.
pub(crate) fn topology_name(name: &str) -> &str {
    if name == "cpus" { "vcpus" } else { name }
}

/// The model in `Haswell-x86_64-cpu`.
pub(crate) fn cpu_model(kind: &str) -> &str {
    kind.strip_suffix("-x86_64-cpu").or_else(|| kind.strip_suffix("-i386-cpu")).unwrap_or(kind)
}

/// Whether a switch that is on is a feature that the guest can find. QEMU has two spellings of some: one is enough.
pub(crate) fn is_cpu_feature(name: &str) -> bool {
    !name.contains('_') && !NO_FEATURES.contains(&name)
}

/// Whether a feature is a part of `vmx`, and cannot be on without it.
///
/// Source: QEMU 7.2 and 10.0, `target/i386/cpu.c`, `feature_dependencies`.
pub(crate) fn is_of_vmx(name: &str) -> bool {
    name.starts_with("vmx-")
}

/// Whether a property is the host's business alone.
pub(crate) fn is_hosts_business(name: &str) -> bool {
    HOSTS.contains(&name) || SET_BY_GUEST.contains(&name)
}

/// Whether a property is one of QEMU's own, for machine types of before it.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with("x-")
}

/// Whether the machine's type alone decides that the object is there.
pub(crate) fn is_built_in(node: &Node, bus: &str) -> bool {
    let is_on_board = node.path.starts_with("/machine/unattached/");
    let has_address = bus.rsplit('/').next().is_some_and(|name| name.starts_with("pci"));
    is_on_board && (!has_address || CHIPSET.contains(&node.kind.as_str()))
}

/// The region's name, if it holds firmware.
pub(crate) fn firmware_region(name: &str) -> Option<&str> {
    let name = name.strip_suffix("[0]")?;
    matches!(name, "pc.bios" | "pc.rom").then_some(name)
}

/// The attributes that `name` of the device at `place` is computed from when nobody sets it.
pub(crate) fn follows(place: &str, name: &str) -> Vec<String> {
    match name {
        "num-queues" | "num_queues" => vec!["machine#vcpus".to_owned()],
        // Without an APIC there is nobody to send messages to.
        "vectors" => {
            vec![format!("{place}#num-queues"), "cpu/0#device".into(), "cpu/0#features".into()]
        }
        "cyls" | "heads" | "secs" | "lcyls" | "lheads" | "lsecs" => {
            vec![format!("{place}#capacity")]
        }
        "any_layout" => vec![format!("{place}#disable-modern")],
        _ => Vec::new(),
    }
}

/// The value as the newest QEMU would say it.
pub(crate) fn normal(name: &str, value: Value) -> Value {
    // A switch became one of three states: its "on" of before and its "auto" of now are the same ROM bar.
    if name == "rombar" && value == json!(-1) { json!(1) } else { value }
}
