//! What a kernel module says about itself in its `.modinfo` section: `key=value` strings, each ended by a NUL.
//!
//! `modules.dep` is made from the same facts by `depmod`, but is not in a distribution's package.

use super::elf::Elf;

/// The facts that decide what must be loaded before a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModInfo {
    /// Modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// Modules that it asks for at run time, to be loaded before it where they exist.
    pub(super) soft_before: Vec<String>,
    /// Kernel release that it was built for, from `vermagic`.
    pub(super) release: Option<String>,
}

impl ModInfo {
    /// Reads a module's own words; `None` if `module` is not an x86-64 ELF file with a `.modinfo` section.
    pub(super) fn of(module: &[u8]) -> Option<Self> {
        let section = Elf::new(module)?.section(b".modinfo")?;
        let mut info = Self::default();
        for entry in section.split(|byte| *byte == 0) {
            let Some((key, value)) =
                str::from_utf8(entry).ok().and_then(|entry| entry.split_once('='))
            else {
                continue;
            };
            match key {
                "depends" => info
                    .depends
                    .extend(value.split(',').filter(|name| !name.is_empty()).map(normal)),
                "softdep" => info.soft_before.extend(soft_before(value)),
                "vermagic" => info.release = value.split(' ').next().map(str::to_owned),
                _ => {}
            }
        }
        Some(info)
    }
}

/// Modules go by names with underscores, their files often with hyphens.
pub(super) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The `pre:` names of `pre: a b post: c`.
fn soft_before(value: &str) -> Vec<String> {
    value
        .split_whitespace()
        .skip_while(|word| *word != "pre:")
        .skip(1)
        .take_while(|word| !word.ends_with(':'))
        .map(normal)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_before_post_are_loaded_before() {
        assert_eq!(soft_before("pre: crc32c-x y post: z"), ["crc32c_x", "y"]);
        assert_eq!(soft_before("post: z pre: a"), ["a"]);
        assert!(soft_before("post: z").is_empty());
    }

    #[test]
    fn what_is_no_module_says_nothing() {
        assert_eq!(ModInfo::of(b"\x7fELF"), None);
    }
}
