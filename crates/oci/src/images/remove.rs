//! Taking one image away.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use bandsox_image::base::forget_lost_images;

use super::list::ResolveError;
use super::{InUse, allocated};
use crate::atomic;
use crate::digest::Digest;
use crate::lock::{self, LockError};
use crate::record::Record;
use crate::source::shown;
use crate::store::ImageStore;

/// What was taken away.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Removed {
    /// The name that is gone.
    pub reference: String,
    /// Whether the base image is gone too, and not only one of its names.
    pub base_removed: bool,
    /// Room that it freed. Unit: bytes.
    pub bytes: u64,
}

/// Why an image stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such image, or it is not clear which one is meant.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The images cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// VMs were made from it.
    #[error("image {} is in use by {}", shown(reference), listed(vms))]
    InUse {
        /// Its name.
        reference: String,
        /// The VMs.
        vms: Vec<String>,
    },
    /// A file cannot be deleted, or the records not be read.
    #[error("could not remove image {}", shown(reference))]
    Files {
        /// Its name.
        reference: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The first few of many.
fn listed(vms: &[String]) -> String {
    let first = vms.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    match vms.len().saturating_sub(10) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

impl ImageStore {
    /// Removes a name, and with the last name of an image its base and what no other image has of its blobs.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]. The name goes first, so that an image is never there in part.
    pub fn remove(
        &self,
        name: &str,
        cwd: &Path,
        in_use: &InUse<'_>,
    ) -> Result<Removed, RemoveError> {
        let _alone = lock::exclusive(self.dir())?;
        let record = self.resolve(name, cwd)?;
        let reference = record.reference.clone();
        let error = |source| RemoveError::Files { reference: reference.clone(), source };
        let all = self.records.all().map_err(error)?;
        let others: Vec<Record> =
            all.whole.into_iter().filter(|other| other.reference != reference).collect();
        let same_base = others.iter().filter(|other| other.base == record.base);
        let same_base: Vec<&str> = same_base.map(|other| other.reference.as_str()).collect();
        let shared = !same_base.is_empty();
        let base = self.dir().join(&record.base);
        let vms = in_use(&base, &same_base);
        if !vms.is_empty() {
            return Err(RemoveError::InUse { reference, vms });
        }
        self.records.delete(&reference).map_err(error)?;
        let kept: BTreeSet<&Digest> = others.iter().flat_map(Record::blobs).collect();
        let gone: BTreeSet<&Digest> = record.blobs().filter(|it| !kept.contains(it)).collect();
        let mut paths: Vec<_> = gone.into_iter().map(|digest| self.blobs.path(digest)).collect();
        if !shared {
            paths.push(base);
        }
        let mut bytes = 0u64;
        for path in paths {
            bytes = bytes.saturating_add(allocated(&path));
            atomic::delete(&path).map_err(error)?;
        }
        forget_lost_images(self.dir()).map_err(error)?;
        Ok(Removed { reference: record.reference, base_removed: !shared, bytes })
    }
}
