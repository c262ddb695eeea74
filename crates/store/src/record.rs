//! What the holder of a VM's lock writes into the lock file.
//!
//! The record survives what a person does to metadata and allocator files while the VM runs: whose
//! lock is held, the record says which CID and port are taken. It is of a fixed length and written by
//! a single call in place, because a lock file is never replaced; a holder that is killed leaves the
//! old record or the new.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Deserializer, Serialize};

use bandsox_spec::StopReason;

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
    /// Why the run ended, for the case that there was no room to write it into the metadata: this
    /// takes none.
    #[serde(default, deserialize_with = "if_known", skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<StopReason>,
}

impl LockRecord {
    /// A record of the calling process.
    pub(crate) fn ours(purpose: LockUse, lease: Option<Lease>) -> Self {
        Self { purpose, holder: ProcessIdentity::current().ok(), lease, ended: None }
    }

    /// The record of a run that is over. An engine's last words are too long for it.
    pub(crate) fn of_end(reason: &StopReason) -> Self {
        let mut short = reason.clone();
        if let StopReason::EngineDied { detail, .. } | StopReason::StartFailed { detail } =
            &mut short
        {
            detail.clear();
        }
        Self { ended: Some(short), ..Self::ours(LockUse::Run, None) }
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

/// A reason that a later version wrote is no reason to lose the rest of the record.
fn if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<StopReason>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
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
            ended: Some(StopReason::HostRebooted),
        };
        let short = LockRecord { purpose: LockUse::Create, holder: None, lease: None, ended: None };

        for record in [&long, &short, &long] {
            record.write(&file).expect("there is room");
            assert_eq!(LockRecord::read(&file).expect("readable").as_ref(), Some(record));
        }
        assert_eq!(file.metadata().map(|about| about.len()).ok(), Some(512));
    }

    #[test]
    fn an_unknown_reason_of_a_later_version_does_not_hide_the_lease() {
        let text = br#"{"use":"run","cid":3,"port":9000,"ended":{"kind":"abducted"}}"#;
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(text, 0).expect("there is room");

        let record = LockRecord::read(&file).expect("readable").expect("a record");

        assert_eq!((record.lease, record.ended), (Some(Lease { cid: 3, port: 9000 }), None));
    }

    #[test]
    fn an_empty_or_meaningless_record_is_none() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(LockRecord::read(&file).expect("readable"), None);

        file.write_all_at(b"{\"use\":\"run\", oops", 0).expect("there is room");
        assert_eq!(LockRecord::read(&file).expect("readable"), None);
    }
}
