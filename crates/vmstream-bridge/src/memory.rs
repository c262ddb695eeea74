//! Which block of the destination's memory is which of the source's.
//!
//! QEMU names a block of memory after the object that backs it, which is the host's choice.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use vmstream::Finding;
use vmstream::message::{Manifest, Region};

/// A block of QEMU's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// Blocks as QEMU's monitor lists them: name, page size and its unit, then offset, used and total bytes, and more.
///
/// Source: QEMU, `softmmu/physmem.c` and `system/physmem.c`, `ram_block_format`.
pub(crate) fn blocks(listed: &str) -> Vec<Block> {
    let block = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.starts_with("0x"))?;
        let total = words.get(at.checked_add(2)?)?.strip_prefix("0x")?;
        let name = words.get(..at.checked_sub(2)?)?.join(" ");
        Some(Block { name, bytes: u64::from_str_radix(total, 16).ok()? })
    };
    listed.lines().filter_map(block).collect()
}

/// The source's regions as the destination's blocks.
#[derive(Debug)]
pub(crate) struct Memory {
    blocks: Vec<Block>,
    known: OnceLock<Known>,
}

#[derive(Debug)]
struct Known {
    manifest: Manifest,
    /// The destination's name of each region.
    names: Vec<String>,
}

impl Memory {
    pub(crate) const fn new(blocks: Vec<Block>) -> Self {
        Self { blocks, known: OnceLock::new() }
    }

    /// Takes the source's regions: each must have a block, of its name or, where only one fits, of its size.
    pub(crate) fn learn(&self, manifest: &Manifest) -> Result<(), Box<Finding>> {
        let known: BTreeSet<_> = manifest.memory.iter().map(|region| &*region.name).collect();
        let (mut names, mut taken) = (Vec::new(), BTreeSet::new());
        for region in &manifest.memory {
            let name = self.place(region, &known)?;
            // Two regions of a size for which there is one block.
            if !taken.insert(name) {
                return Err(missing(region));
            }
            names.push(name.to_owned());
        }
        let known = Known { names, manifest: manifest.clone() };
        // There is one manifest in a stream.
        drop(self.known.set(known));
        Ok(())
    }

    fn place(&self, region: &Region, known: &BTreeSet<&str>) -> Result<&str, Box<Finding>> {
        if let Some(block) = self.blocks.iter().find(|block| block.name == region.name) {
            return if block.bytes >= region.bytes {
                Ok(&block.name)
            } else {
                let values = (Some(region.bytes.into()), Some(block.bytes.into()));
                let finding =
                    Finding::new("too-small", format!("memory/{}", region.name), "manifest");
                Err(Box::new(finding.values(values.0, values.1)))
            };
        }
        let has_none = |block: &&Block| !known.contains(&*block.name);
        let mut fitting =
            self.blocks.iter().filter(has_none).filter(|block| block.bytes == region.bytes);
        match (fitting.next(), fitting.next()) {
            (Some(block), None) => Ok(&block.name),
            _ => Err(missing(region)),
        }
    }

    /// What the destination calls a region of the source's.
    pub(crate) fn name_there(&self, name: &str) -> Option<Box<str>> {
        let known = self.known.get()?;
        let mut pairs = known.manifest.memory.iter().zip(&known.names);
        let (_, there) = pairs.find(|(region, _)| region.name == name)?;
        Some(there.as_str().into())
    }

    /// Which region the destination's block is.
    pub(crate) fn region(&self, block: &str) -> Option<u32> {
        let names = &self.known.get()?.names;
        let number = names.iter().position(|name| name == block)?;
        u32::try_from(number).ok()
    }

    /// Bytes of a page, once the source has said.
    pub(crate) fn page_size(&self) -> Option<u64> {
        self.known.get().map(|known| known.manifest.page_size)
    }
}

fn missing(region: &Region) -> Box<Finding> {
    let path = format!("memory/{}", region.name);
    let finding = Finding::new("missing-at-destination", path, "manifest");
    Box::new(finding.values(Some(region.bytes.into()), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 10.0 prints it.
    const LISTED: &str = "              Block Name    PSize              Offset               Used              Total                HVA  RO\r
                  pc.ram    4 KiB  0x0000000000000000 0x0000000010000000 0x0000000010000000 0x00007f3c0fe00000  rw\r
   /rom@etc/acpi/tables    4 KiB  0x0000000010100000 0x0000000000020000 0x0000000000200000 0x00007f3c2f400000  ro\r
";

    fn manifest(regions: &[(&str, u64)]) -> Manifest {
        let region = |(name, bytes): &(&str, u64)| Region {
            name: (*name).to_owned(),
            kind: "ram".to_owned(),
            bytes: *bytes,
            gpa: None,
        };
        let memory = regions.iter().map(region).collect();
        Manifest { page_size: 4096, memory, ..Manifest::default() }
    }

    #[test]
    fn blocks_are_read_from_the_monitors_list() {
        let names: Vec<_> =
            blocks(LISTED).into_iter().map(|block| (block.name, block.bytes)).collect();
        let wanted = [("pc.ram", 0x1000_0000), ("/rom@etc/acpi/tables", 0x20_0000)];
        assert_eq!(names, wanted.map(|(name, bytes)| (name.to_owned(), bytes)));
    }

    #[test]
    fn a_block_of_another_name_is_found_by_its_size() {
        let memory = Memory::new(blocks(LISTED));
        let known = manifest(&[("mem", 0x1000_0000), ("/rom@etc/acpi/tables", 0x20_0000)]);
        memory.learn(&known).expect("each has a place");
        assert_eq!(memory.name_there("mem").as_deref(), Some("pc.ram"));
        assert_eq!(memory.region("pc.ram"), Some(0));
        assert_eq!(memory.region("/rom@etc/acpi/tables"), Some(1));
        assert_eq!(memory.region("mem"), None);
    }

    #[test]
    fn two_regions_never_share_a_block() {
        let memory = Memory::new(blocks(LISTED));
        let refused = memory.learn(&manifest(&[("a", 0x1000_0000), ("b", 0x1000_0000)]));
        let refused = refused.expect_err("there is one of that size");
        assert_eq!(refused.to_string(), "missing-at-destination memory/b: source has 268435456");
    }

    #[test]
    fn a_region_without_a_place_is_named_before_any_page() {
        let memory = Memory::new(blocks(LISTED));
        let refused = memory.learn(&manifest(&[("mem", 0x2000_0000)])).expect_err("no such block");
        assert_eq!(refused.to_string(), "missing-at-destination memory/mem: source has 536870912");
        let refused = memory.learn(&manifest(&[("pc.ram", 0x2000_0000)])).expect_err("too small");
        assert_eq!(refused.code, "too-small");
    }
}
