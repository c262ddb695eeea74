//! What the holder of a VM's lock writes into the lock file.
//!
//! The record survives what a person does to metadata and allocator files while the VM runs: whose
//! lock is held, the record says which CID and port are taken. It is of a fixed length and written by
//! a single call in place, because a lock file is never replaced; a holder that is killed leaves the
//! old record or the new.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::identity::ProcessIdentity;
use crate::lease::Lease;

/// What a VM's lock is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LockUse {
    /// The VM is being made: there is no metadata yet.
    Create,
    /// The VM runs, or is about to.
    Run,
}

/// What the holder of a VM's lock says about itself. Without a holder it is history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockRecord {
    /// What the lock is held for.
    #[serde(rename = "use")]
    pub(crate) purpose: LockUse,
    /// The holder, if it could find out who it is.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<ProcessIdentity>,
    /// The CID and port that the VM has.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Lease>,
}

impl LockRecord {
    /// A record of the calling process.
    pub(crate) fn ours(purpose: LockUse, lease: Option<Lease>) -> Self {
        Self { purpose, holder: ProcessIdentity::current().ok(), lease }
    }

    /// Reads a lock file's record; nothing if there is none or it makes no sense.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; LENGTH];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let offset = u64::try_from(filled).expect("a record's length fits");
            match file.read_at(rest, offset)? {
                0 => break,
                more => filled += more,
            }
        }
        Ok(bytes.get(..filled).and_then(|text| serde_json::from_slice(text).ok()))
    }

    /// Replaces a lock file's record.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        if bytes.len() >= LENGTH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.resize(LENGTH - 1, b' ');
        bytes.push(b'\n');
        file.write_all_at(&bytes, 0)
    }
}

/// Length of a record with its padding. Unit: bytes. Twice what the longest one needs.
const LENGTH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> ProcessIdentity {
        ProcessIdentity { pid: u32::MAX, start: u64::MAX, boot_id: "b".repeat(36) }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_shorter_one_leaves_no_rest() {
        let file = tempfile::tempfile().expect("a file");
        let long = LockRecord {
            purpose: LockUse::Run,
            holder: Some(holder()),
            lease: Some(Lease { cid: 254, port: 9999 }),
        };
        let short = LockRecord { purpose: LockUse::Create, holder: None, lease: None };

        for record in [&long, &short, &long] {
            record.write(&file).expect("there is room");
            assert_eq!(LockRecord::read(&file).expect("readable").as_ref(), Some(record));
        }
        assert_eq!(file.metadata().map(|about| about.len()).ok(), Some(512));
    }

    #[test]
    fn an_empty_or_meaningless_record_is_none() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(LockRecord::read(&file).expect("readable"), None);

        file.write_all_at(b"{\"use\":\"run\", oops", 0).expect("there is room");
        assert_eq!(LockRecord::read(&file).expect("readable"), None);
    }
}
