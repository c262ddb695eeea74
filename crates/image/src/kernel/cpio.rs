//! The "newc" cpio format, in which a kernel takes its initramfs.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`. Header, name and data are each padded to
//! four bytes. Everything that could differ from run to run (times, inode numbers) is fixed.

use std::collections::BTreeSet;

/// Builds an archive in memory.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

/// An entry, as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) mode: u32,
    pub(super) data: &'a [u8],
}

/// A file or name that the format cannot hold: 4 GiB and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are too many for a cpio archive")]
pub struct TooLarge {
    /// The length that does not fit.
    pub bytes: usize,
}

impl Writer {
    /// Adds a directory, and those above it that were not added yet.
    pub(super) fn directory(&mut self, path: &str) -> Result<(), TooLarge> {
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let prefix = path.get(..at).unwrap_or_default();
            if !prefix.is_empty() && self.directories.insert(prefix.to_owned()) {
                self.entry(prefix, S_IFDIR | 0o755, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    /// Adds a regular file, and the directories above it that were not added yet. No leading `/`.
    pub(super) fn file(
        &mut self,
        path: &str,
        permissions: u32,
        data: &[u8],
    ) -> Result<(), TooLarge> {
        if let Some((directory, _)) = path.rsplit_once('/') {
            self.directory(directory)?;
        }
        self.entry(path, S_IFREG | permissions, (0, 0), data)
    }

    /// Adds a character device.
    pub(super) fn device(
        &mut self,
        path: &str,
        permissions: u32,
        number: (u32, u32),
    ) -> Result<(), TooLarge> {
        if let Some((directory, _)) = path.rsplit_once('/') {
            self.directory(directory)?;
        }
        self.entry(path, S_IFCHR | permissions, number, &[])
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, TooLarge> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        rdev: (u32, u32),
        data: &[u8],
    ) -> Result<(), TooLarge> {
        let field = |bytes: usize| u32::try_from(bytes).map_err(|_| TooLarge { bytes });
        self.entries = self.entries.saturating_add(1);
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        let fields = [
            self.entries,
            mode,
            0, // uid
            0, // gid
            links,
            0, // mtime
            field(data.len())?,
            0, // device of the file system, major and minor
            0,
            rdev.0,
            rdev.1,
            field(path.len().saturating_add(1))?,
            0, // checksum, of another variant
        ];
        self.bytes.extend_from_slice(MAGIC);
        for value in fields {
            self.bytes.extend_from_slice(format!("{value:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Reads an archive back; `None` if it is damaged.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut at = 0usize;
    loop {
        let header = bytes.get(at..at.checked_add(HEADER)?)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let field = |index: usize| {
            let start = index.checked_mul(8)?.checked_add(MAGIC.len())?;
            let text = str::from_utf8(header.get(start..start.checked_add(8)?)?).ok()?;
            u32::from_str_radix(text, 16).ok()
        };
        let size = usize::try_from(field(6)?).ok()?;
        let name_at = at.checked_add(HEADER)?;
        let name_end = name_at.checked_add(usize::try_from(field(11)?).ok()?)?;
        let name = str::from_utf8(bytes.get(name_at..name_end)?.strip_suffix(b"\0")?).ok()?;
        if name == TRAILER {
            return Some(entries);
        }
        let data_at = name_end.checked_next_multiple_of(4)?;
        let data_end = data_at.checked_add(size)?;
        entries.push(Entry { name, mode: field(1)?, data: bytes.get(data_at..data_end)? });
        at = data_end.checked_next_multiple_of(4)?;
    }
}

const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_cpio_program_lists_and_unpacks_what_was_written() {
        let mut writer = Writer::default();
        writer.file("init", 0o755, b"agent").expect("small");
        writer.file("lib/modules/6.1/a.ko", 0o644, b"module!").expect("small");
        writer.directory("proc").expect("small");
        let bytes = writer.finish().expect("small");
        let dir = tempfile::tempdir().expect("a temporary directory");

        let mut cpio = Command::new("cpio")
            .args(["-i", "-d", "-v", "--quiet", "--no-preserve-owner"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cpio runs");
        cpio.stdin.take().expect("piped").write_all(&bytes).expect("cpio reads");
        let output = cpio.wait_with_output().expect("cpio ends");

        assert!(output.status.success());
        let listing = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            listing,
            "init\nlib\nlib/modules\nlib/modules/6.1\nlib/modules/6.1/a.ko\nproc\n"
        );
        let unpacked = std::fs::read(dir.path().join("lib/modules/6.1/a.ko")).expect("unpacked");
        assert_eq!(unpacked, b"module!");
    }

    #[test]
    fn a_cut_archive_is_not_read() {
        let mut writer = Writer::default();
        writer.file("init", 0o755, b"agent").expect("small");
        let bytes = writer.finish().expect("small");

        assert!(read(&bytes).is_some());
        assert_eq!(read(&bytes[..bytes.len() - 20]), None);
        assert_eq!(read(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(files: Vec<(u16, Vec<u8>)>) {
            let mut writer = Writer::default();
            for (number, data) in &files {
                writer.file(&format!("f{number}"), 0o600, data).expect("small");
            }
            let bytes = writer.finish().expect("small");

            let entries = read(&bytes).expect("whole");

            proptest::prop_assert_eq!(entries.len(), files.len());
            for (entry, (number, data)) in entries.iter().zip(&files) {
                let name = format!("f{number}");
                let want = Entry { name: &name, mode: S_IFREG | 0o600, data: data.as_slice() };
                proptest::prop_assert_eq!(entry, &want);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(header: [u8; 13], tail: Vec<u8>) {
            let digits: String = header.iter().map(|byte| format!("{byte:08x}")).collect();
            let bytes = [MAGIC, digits.as_bytes(), &tail].concat();
            // Only that it returns counts here.
            drop(read(&bytes));
        }
    }
}
