//! Which shared libraries a program loads.
//!
//! The system's own dynamic linker is asked to list them, without running the program: it
//! searches as it will when the program starts, which no reimplementation quite does.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bandsox_engine::LaunchError;

/// Files that `program` and `plugins` load at start: the dynamic linker, libraries, and the
/// linker's cache, which tells where libraries in unusual places are.
pub(crate) fn of(program: &Path, plugins: &[&Path]) -> Result<BTreeSet<PathBuf>, LaunchError> {
    let mut found = BTreeSet::new();
    let missing = |source| LaunchError::NoProgram { path: program.to_owned(), source };
    let Some(linker) = interpreter(program).map_err(missing)? else {
        return Ok(found);
    };
    for object in std::iter::once(program).chain(plugins.iter().copied()) {
        let listing = Command::new(&linker)
            .arg("--list")
            .arg(object)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|source| LaunchError::Helper { step: "asked for libraries", source })?;
        let text = String::from_utf8_lossy(&listing.stdout).into_owned();
        if !listing.status.success() || text.contains("=> not found") {
            let said = String::from_utf8_lossy(&listing.stderr).into_owned();
            let said = if said.is_empty() { text } else { said };
            return Err(LaunchError::Libraries { program: object.to_owned(), said });
        }
        found.extend(text.lines().filter_map(library_path));
    }
    found.insert(linker);
    let cache = PathBuf::from("/etc/ld.so.cache");
    if cache.is_file() {
        found.insert(cache);
    }
    Ok(found)
}

/// The path in a line such as `libc.so.6 => /lib/libc.so.6 (0x00007f…)`; lines that name no
/// file (the vDSO) have none.
fn library_path(line: &str) -> Option<PathBuf> {
    let (named, _address) = line.trim().rsplit_once(" (0x")?;
    let path = named.rsplit_once(" => ").map_or(named, |(_name, path)| path);
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// The dynamic linker that `program` names, or `None` for a static program.
///
/// Source: System V ABI, chapter 4 (ELF header) and 5 (program header, `PT_INTERP`).
fn interpreter(program: &Path) -> io::Result<Option<PathBuf>> {
    const PT_INTERP: u32 = 3;
    let file = File::open(program)?;
    let mut header = [0_u8; 64];
    file.read_exact_at(&mut header, 0)?;
    // 64-bit, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let table = u64::from_le_bytes(array(&header, 32)?);
    let entry_bytes = u64::from(u16::from_le_bytes(array(&header, 54)?));
    let entries = u64::from(u16::from_le_bytes(array(&header, 56)?));
    for index in 0..entries {
        let mut entry = [0_u8; 56];
        let offset = table.checked_add(index * entry_bytes).ok_or(io::ErrorKind::InvalidData)?;
        file.read_exact_at(&mut entry, offset)?;
        if u32::from_le_bytes(array(&entry, 0)?) == PT_INTERP {
            let at = u64::from_le_bytes(array(&entry, 8)?);
            let length = u64::from_le_bytes(array(&entry, 32)?);
            return read_path(&file, at, length).map(Some);
        }
    }
    Ok(None)
}

fn read_path(file: &File, at: u64, length: u64) -> io::Result<PathBuf> {
    let length = usize::try_from(length).ok().filter(|&length| (2..4096).contains(&length));
    let mut path = vec![0_u8; length.ok_or(io::ErrorKind::InvalidData)?];
    file.read_exact_at(&mut path, at)?;
    path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_libraries_exist_and_include_the_linker() {
        let shell = Path::new("/bin/bash");

        let found = of(shell, &[]).expect("bash is a dynamic program");

        assert!(found.iter().all(|path| path.is_file()), "{found:?}");
        assert!(found.iter().any(|path| path.ends_with("ld-linux-x86-64.so.2")), "{found:?}");
        assert!(found.iter().any(|path| path.ends_with("libc.so.6")), "{found:?}");
    }

    #[test]
    fn a_line_without_a_file_is_skipped() {
        assert_eq!(library_path("\tlinux-vdso.so.1 (0x00007ffe45df8000)"), None);
        assert_eq!(
            library_path("\tliba.so => /a b/lib => c.so (0x1)"),
            Some(PathBuf::from("c.so")).filter(|path| path.is_absolute())
        );
        assert_eq!(library_path("\t/lib64/ld.so (0x1)"), Some(PathBuf::from("/lib64/ld.so")));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let refused = of(Path::new("/etc/passwd"), &[]).expect_err("not ELF");

        assert!(matches!(refused, LaunchError::NoProgram { .. }));
    }
}
