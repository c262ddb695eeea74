//! The little of ELF that is needed: can QEMU start this kernel directly, and what does a module say about itself.
//!
//! Source: System V ABI, ELF-64; Xen `xen/include/public/elfnote.h` for the PVH note.

/// A 64-bit little-endian x86-64 ELF file, bounds-checked on every access.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    /// `None` if `bytes` are not such a file.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let elf = Self { bytes };
        let is_elf = bytes.starts_with(b"\x7fELF\x02\x01") && elf.u16(18)? == EM_X86_64;
        is_elf.then_some(elf)
    }

    /// Whether there is a note that gives a PVH entry point, which QEMU needs to start an ELF kernel.
    pub(super) fn has_pvh_note(self) -> bool {
        self.notes()
            .into_iter()
            .flatten()
            .any(|notes| has_note(notes, b"Xen\0", XEN_ELFNOTE_PHYS32_ENTRY))
    }

    /// The contents of the section called `name`.
    pub(super) fn section(self, name: &[u8]) -> Option<&'a [u8]> {
        let table = usize::try_from(self.u64(40)?).ok()?;
        let (size, count, names) = (self.u16(58)?, self.u16(60)?, self.u16(62)?);
        let header = |index: u16| table.checked_add(usize::from(size).checked_mul(index.into())?);
        let contents =
            |at: usize| self.range(self.u64(at.checked_add(24)?)?, self.u64(at.checked_add(32)?)?);
        let names = contents(header(names)?)?;
        (0..count).filter_map(header).find_map(|at| {
            let offset = usize::try_from(self.u32(at)?).ok()?;
            let found = names.get(offset..)?.split(|byte| *byte == 0).next()?;
            if found == name { contents(at) } else { None }
        })
    }

    fn notes(self) -> Option<Vec<&'a [u8]>> {
        let table = usize::try_from(self.u64(32)?).ok()?;
        let (size, count) = (usize::from(self.u16(54)?), usize::from(self.u16(56)?));
        let segment = |index: usize| {
            let at = table.checked_add(size.checked_mul(index)?)?;
            if self.u32(at)? != PT_NOTE {
                return None;
            }
            self.range(self.u64(at.checked_add(8)?)?, self.u64(at.checked_add(32)?)?)
        };
        Some((0..count).filter_map(segment).collect())
    }

    fn range(self, offset: u64, length: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(self, at: usize) -> Option<u64> {
        self.bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// Whether a note segment holds a note of this owner and type. Names and descriptors are padded to four bytes.
fn has_note(mut notes: &[u8], owner: &[u8], kind: u32) -> bool {
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes))
    };
    let step = |notes: &[u8]| -> Option<(bool, usize)> {
        let name_length = usize::try_from(word(notes, 0)?).ok()?;
        let data_length = usize::try_from(word(notes, 4)?).ok()?;
        let data_at = name_length.checked_add(12)?.checked_next_multiple_of(4)?;
        let name = notes.get(12..name_length.checked_add(12)?)?;
        let next = data_at.checked_add(data_length)?.checked_next_multiple_of(4)?;
        Some((name == owner && word(notes, 8)? == kind, next))
    };
    while let Some((found, next)) = step(notes) {
        if found {
            return true;
        }
        notes = notes.get(next..).unwrap_or_default();
    }
    false
}

const EM_X86_64: u16 = 62;
const PT_NOTE: u32 = 4;
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_behind_another_and_only_under_its_own_name() {
        let note = |name: &[u8], kind: u32, data: &[u8]| {
            let mut bytes = Vec::new();
            bytes.extend(u32::try_from(name.len()).expect("short").to_le_bytes());
            bytes.extend(u32::try_from(data.len()).expect("short").to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(name);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend(data);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let notes = [note(b"GNU\0", 3, b"12345"), note(b"Xen\0", 18, &[0; 4])].concat();

        assert!(has_note(&notes, b"Xen\0", 18));
        assert!(!has_note(&notes, b"GNU\0", 18));
        assert!(!has_note(&notes[..30], b"Xen\0", 18));
    }

    #[test]
    fn this_test_program_has_sections_and_no_pvh_note() {
        let bytes = std::fs::read("/proc/self/exe").expect("reads");
        let elf = Elf::new(&bytes).expect("an ELF program");

        assert!(elf.section(b".text").is_some_and(|text| !text.is_empty()));
        assert!(elf.section(b".no-such-section").is_none());
        assert!(!elf.has_pvh_note());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail: Vec<u8>) {
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.extend(tail);
            bytes.resize(bytes.len().max(20), 0);
            bytes[18] = 62;
            bytes[19] = 0;
            if let Some(elf) = Elf::new(&bytes) {
                elf.has_pvh_note();
                elf.section(b".modinfo");
            }
        }
    }
}
