//! Which file a command's name means.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bandsox_proto::ByteString;
use bandsox_proto::v2::{ErrorCode, Fault};

/// Why there is nothing to execute, as a shell tells it: 127 not found, 126 found and not executable.
#[derive(Debug)]
pub(crate) struct Unrunnable {
    pub(crate) exit_code: u8,
    pub(crate) fault: Fault,
}

impl Unrunnable {
    pub(crate) fn not_found(program: &ByteString) -> Self {
        let message = format!("{program}: not found");
        Self { exit_code: 127, fault: Fault { code: ErrorCode::NotFound, message, errno: None } }
    }

    pub(crate) fn not_executable(program: &ByteString, error: &io::Error) -> Self {
        let message = format!("{program}: cannot be executed: {error}");
        let errno = error.raw_os_error();
        Self { exit_code: 126, fault: Fault { code: ErrorCode::NotExecutable, message, errno } }
    }
}

/// Finds `program` as a shell does: with a slash it is a path from `cwd`, else it is searched for in `path`.
pub(crate) fn find(program: &ByteString, cwd: &Path, path: &OsStr) -> Result<PathBuf, Unrunnable> {
    let name = program.as_os_str();
    if name.is_empty() {
        return Err(Unrunnable::not_found(program));
    }
    if name.as_bytes().contains(&b'/') {
        let full = cwd.join(name);
        return match executable(&full) {
            Ok(()) => Ok(full),
            Err(error) if is_missing(&error) => Err(Unrunnable::not_found(program)),
            Err(error) => Err(Unrunnable::not_executable(program, &error)),
        };
    }
    let mut refused = None;
    for dir in path.as_bytes().split(|byte| *byte == b':') {
        // An empty part is the working directory, by POSIX.
        let full = cwd.join(OsString::from(OsStr::from_bytes(dir))).join(name);
        match executable(&full) {
            Ok(()) => return Ok(full),
            Err(error) if is_missing(&error) => {}
            Err(error) => refused = Some(error),
        }
    }
    Err(match refused {
        Some(error) => Unrunnable::not_executable(program, &error),
        None => Unrunnable::not_found(program),
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn executable(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(program: &str, path: &str) -> Result<PathBuf, u8> {
        let program = ByteString::from(program);
        find(&program, Path::new("/"), OsStr::new(path)).map_err(|error| error.exit_code)
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert_eq!(found("sh", "/nonexistent:/bin"), Ok(PathBuf::from("/bin/sh")));
        assert_eq!(found("bin/sh", ""), Ok(PathBuf::from("/bin/sh")));
        assert_eq!(found("/bin/sh", ""), Ok(PathBuf::from("/bin/sh")));
    }

    #[test]
    fn what_is_missing_is_127_and_what_is_no_program_is_126() {
        assert_eq!(found("no-such-program", "/bin:/usr/bin"), Err(127));
        assert_eq!(found("/no/such/program", ""), Err(127));
        assert_eq!(found("/etc/passwd/x", ""), Err(127));
        assert_eq!(found("", "/bin"), Err(127));
        assert_eq!(found("/etc/passwd", ""), Err(126));
        assert_eq!(found("passwd", "/etc"), Err(126));
        assert_eq!(found("/bin", ""), Err(126));
    }
}
