//! What takes how much room below the storage directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bandsox_spec::VmId;
use serde::Serialize;

use crate::file::{self, FileError};
use crate::remove::{allocated_bytes, owner_of};
use crate::store::{ReadError, Store};

/// What one file, or one directory with all that is in it, takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Where it is.
    pub path: PathBuf,
    /// What it takes on the disk, in bytes; holes take nothing.
    pub bytes: u64,
    /// As long as it looks, in bytes.
    pub apparent_bytes: u64,
    /// The VMs that it belongs to, or that are made from it.
    pub vms: Vec<VmId>,
}

/// What takes room, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Read-only base images in the storage directory. Images elsewhere are their owners' business.
    pub bases: Vec<Used>,
    /// Layers, manifests and configs of images, as registries have them, whole or still arriving.
    pub blobs: Vec<Used>,
    /// Writable disks of VMs.
    pub disks: Vec<Used>,
    /// Empty disks that new ones are copied from.
    pub templates: Vec<Used>,
    /// Logs of VMs.
    pub logs: Vec<Used>,
    /// Kernel and initramfs.
    pub kernel: Vec<Used>,
}

/// Which base images VMs are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasesInUse {
    /// What each VM is made from.
    pub vms: Vec<BaseUser>,
    /// Metadata that cannot be read: they may name any image.
    pub damaged: Vec<PathBuf>,
}

/// What a VM is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUser {
    /// The VM.
    pub id: VmId,
    /// Every path that its metadata name.
    pub paths: Vec<PathBuf>,
    /// The canonical name of its image, if its metadata say.
    pub image_reference: Option<String>,
}

impl BasesInUse {
    /// The VMs that name `path`.
    #[must_use]
    pub fn users_of(&self, path: &Path) -> Vec<VmId> {
        self.users_but_of(path, &[])
    }

    /// The VMs that name `path`, but for those that were made under one of the names `others`.
    ///
    /// With all other names of the same base, these are the VMs of the remaining one. A VM that does not say under which name
    /// it was made, or says one that the base no longer has, counts for each.
    #[must_use]
    pub fn users_but_of(&self, path: &Path, others: &[&str]) -> Vec<VmId> {
        // Bases are named by their digests, wherever the storage directory has moved since.
        let names =
            |user: &&BaseUser| user.paths.iter().any(|named| named.file_name() == path.file_name());
        let elsewhere = |user: &BaseUser| {
            user.image_reference.as_deref().is_some_and(|reference| others.contains(&reference))
        };
        let users = self.vms.iter().filter(names).filter(|user| !elsewhere(user));
        users.map(|user| user.id.clone()).collect()
    }
}

impl Store {
    /// Which base images VMs are made from, as far as metadata can be read.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the metadata cannot be listed.
    pub fn bases_in_use(&self) -> Result<BasesInUse, FileError> {
        let mut in_use = BasesInUse::default();
        for stem in self.metadata_stems()? {
            let Ok(id) = stem.parse::<VmId>() else {
                in_use.damaged.push(self.paths().metadata_dir().join(format!("{stem}.json")));
                continue;
            };
            match self.read(&id) {
                Ok(metadata) => in_use.vms.push(BaseUser {
                    paths: metadata.referenced_paths(),
                    image_reference: metadata.image_reference().map(str::to_owned),
                    id,
                }),
                Err(ReadError::Damaged { path, .. }) => in_use.damaged.push(path),
                Err(ReadError::NotFound { .. }) => {}
            }
        }
        Ok(in_use)
    }

    /// What takes how much room, and for which of the VMs in `in_use`.
    ///
    /// # Errors
    ///
    /// [`FileError`] if a directory cannot be listed.
    pub fn usage(&self, in_use: &BasesInUse) -> Result<Usage, FileError> {
        let paths = self.paths();
        let known: BTreeSet<VmId> = in_use.vms.iter().map(|user| user.id.clone()).collect();
        let mut usage = Usage::default();
        for path in listed(&paths.images())? {
            if path.extension().is_some_and(|it| it == "erofs" || it == "ext4") {
                let vms = in_use.users_of(&path);
                usage.bases.push(used(path, vms));
            }
        }
        for directory in ["blobs/sha256", "blobs/partial"] {
            let blobs = listed(&paths.images().join(directory))?.into_iter();
            usage.blobs.extend(blobs.map(|path| used(path, Vec::new())));
        }
        for path in listed(&paths.disks())? {
            match path.file_name().and_then(owner_of) {
                Some(id) => usage.disks.push(used(path, vec![id])),
                None => usage.templates.push(used(path, Vec::new())),
            }
        }
        for path in listed(&paths.logs())? {
            let owner = path.file_name().and_then(owner_of).filter(|id| known.contains(id));
            usage.logs.push(used(path, owner.into_iter().collect()));
        }
        for path in listed(&paths.kernel())? {
            usage.kernel.push(used(path, Vec::new()));
        }
        Ok(usage)
    }
}

/// What is in a directory, but for hidden files, by name.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut names = file::names_in(directory)?;
    names.retain(|name| !name.to_string_lossy().starts_with('.'));
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

fn used(path: PathBuf, vms: Vec<VmId>) -> Used {
    let bytes = allocated_bytes(&path);
    let apparent_bytes = match path.symlink_metadata() {
        Ok(about) if about.is_file() => about.len(),
        Ok(_) | Err(_) => bytes,
    };
    Used { path, bytes, apparent_bytes, vms }
}
