//! Signatures at the end of kernel modules, and whether the guest needs them.
//!
//! A kernel checks each with RSA before it loads the module, which makes an emulated guest's boot a tenth longer and
//! protects nothing here: who can change the initramfs can change the kernel too. Without one the kernel loads the module
//! and marks itself tainted (`E`), unless its configuration makes signatures a must.

use std::fs;
use std::path::Path;

/// Whether modules keep their signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signatures {
    /// The kernel insists on them, or might.
    Keep,
    /// The kernel is known to load modules without.
    Drop,
}

impl Signatures {
    /// Decides by a kernel's configuration, looked for beside its image and among its modules; what is not known to be
    /// unnecessary is kept.
    pub(super) fn of_kernel(kernel_dir: Option<&Path>, modules: &Path, version: &str) -> Self {
        let beside_kernel = kernel_dir.map(|dir| dir.join(format!("config-{version}")));
        let with_version = modules.join(format!("config-{version}"));
        let candidates = beside_kernel.into_iter().chain([with_version, modules.join("config")]);
        let text = candidates.filter_map(|path| fs::read_to_string(path).ok()).next();
        text.map_or(Self::Keep, |text| Self::of_config(&text))
    }

    fn of_config(text: &str) -> Self {
        let is_off =
            |option: &str| text.lines().any(|line| line == format!("# {option} is not set"));
        let is_on = |option: &str| text.lines().any(|line| line == format!("{option}=y"));
        let forces = [
            "CONFIG_MODULE_SIG_FORCE",
            "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY",
            "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
        ];
        // That the option is named at all shows that this is a configuration, and a whole one.
        let is_known = is_off("CONFIG_MODULE_SIG_FORCE") || is_off("CONFIG_MODULE_SIG");
        if is_known && !forces.into_iter().any(is_on) { Self::Drop } else { Self::Keep }
    }
}

/// The module without its signature; as it is if it has none.
///
/// Source: Linux `include/linux/module_signature.h`: signature, 12 bytes of which the last four are its length (big-endian),
/// magic.
pub(super) fn without(mut module: Vec<u8>) -> Vec<u8> {
    let length = module.strip_suffix(MAGIC).and_then(|rest| {
        let (rest, trailer) = rest.split_last_chunk::<12>()?;
        let length = u32::from_be_bytes(*trailer.last_chunk::<4>()?);
        rest.len().checked_sub(usize::try_from(length).ok()?)
    });
    if let Some(length) = length {
        module.truncate(length);
    }
    module
}

const MAGIC: &[u8] = b"~Module signature appended~\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_cut_off_and_a_lying_one_left() {
        let signed =
            |length: u32| [b"module|sig", &[0; 8][..], &length.to_be_bytes(), MAGIC].concat();

        assert_eq!(without(signed(4)), b"module");
        assert_eq!(without(signed(1000)), signed(1000));
        assert_eq!(without(b"module".to_vec()), b"module");
    }

    #[test]
    fn signatures_go_only_where_the_configuration_says_so() {
        let off = "CONFIG_MODULE_SIG=y\n# CONFIG_MODULE_SIG_FORCE is not set\n";
        assert_eq!(Signatures::of_config(off), Signatures::Drop);
        assert_eq!(Signatures::of_config("CONFIG_MODULE_SIG_FORCE=y\n"), Signatures::Keep);
        let locked = format!("{off}CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y\n");
        assert_eq!(Signatures::of_config(&locked), Signatures::Keep);
        assert_eq!(Signatures::of_config(""), Signatures::Keep);
    }
}
