//! What the file system says about a path, in the protocol's words.

use std::io;
use std::path::Path;

use bandsox_proto::ByteString;
use bandsox_proto::v2::{EntryKind, StatReply};
use rustix::fs::{AtFlags, CWD, FileType, Stat};

use crate::{Action, FileError};

/// Looks at `path`; through a symbolic link if `follow`.
///
/// # Errors
///
/// What the operating system says.
pub fn stat(path: &Path, follow: bool) -> Result<StatReply, FileError> {
    let name = ByteString::from(path);
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat = rustix::fs::statat(CWD, path, flags).map_err(FileError::on(Action::Open, &name))?;
    let kind = kind(&stat).ok_or_else(|| {
        FileError::on(Action::Open, &name)(io::Error::from(io::ErrorKind::Unsupported))
    })?;
    let target = if kind == EntryKind::Symlink {
        let target = rustix::fs::readlinkat(CWD, path, Vec::new());
        let target = target.map_err(FileError::on(Action::Read, &name))?;
        Some(ByteString::from(target.into_bytes()))
    } else {
        None
    };
    Ok(StatReply {
        kind,
        mode: permissions(&stat),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_ns: mtime_ns(&stat),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        target,
    })
}

pub(crate) fn kind(stat: &Stat) -> Option<EntryKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Unknown => return None,
    })
}

pub(crate) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// Saturates at the years 1677 and 2262.
pub(crate) fn mtime_ns(stat: &Stat) -> i64 {
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos)
}
