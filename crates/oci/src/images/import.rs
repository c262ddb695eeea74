//! Giving a name to an image that is in a file or directory.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::iter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bandsox_image::base::{Limits, PrepareError, prepare};
use bandsox_image::{Archive, Member, decoder};

use super::allocated;
use crate::atomic::{sync_dir, temp_in};
use crate::builder::BaseBuilder;
use crate::digest::Hasher;
use crate::local::layout::is_layout;
use crate::lock::LockError;
use crate::manifest::MAX_ARCHIVE_BYTES;
use crate::name::registry_name;
use crate::progress::Report;
use crate::pull::{PullError, PullOptions};
use crate::record::Record;
use crate::source::{Pick, Source, SourceError};
use crate::store::{Image, ImageStore};

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] SourceError),
    /// The images cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The name has a digest, which a registry decides.
    #[error("{name:?} cannot be given to an image: it has a digest; want name[:tag]")]
    Pinned {
        /// What was given.
        name: String,
    },
    /// The name would be read as something else where an image is wanted.
    #[error("{name:?} cannot be given to an image: it means a layout or an archive")]
    Reserved {
        /// What was given.
        name: String,
    },
    /// A layout or an archive of an image cannot be used.
    #[error(transparent)]
    Image(#[from] PullError),
    /// A disk, a tar or a directory cannot be used.
    #[error(transparent)]
    Base(#[from] PrepareError),
    /// A file cannot be read or written.
    #[error("could not import {path}")]
    File {
        /// What is imported.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl ImageStore {
    /// Imports a root file system (tar, directory, ext4 or EROFS disk) or an image (OCI layout, OCI archive, Docker archive)
    /// under a name. What it is, its content says.
    ///
    /// # Errors
    ///
    /// [`ImportError`].
    pub fn import(
        &self,
        path: &Path,
        name: &str,
        options: &PullOptions,
        builder: &dyn BaseBuilder,
        report: &Report<'_>,
    ) -> Result<Image, ImportError> {
        let reference = imported_name(name)?;
        let _kept = self.keep()?;
        let path = options.cwd.join(path);
        let file_error = |source| ImportError::File { path: path.clone(), source };
        if is_layout(&path) {
            let from = (path.as_path(), &Pick::Only);
            return Ok(self.pull_layout(reference, from, options, builder, report)?);
        }
        if path.is_file() && is_image_archive(&path).map_err(file_error)? {
            let mut file = File::open(&path).map_err(file_error)?;
            let from = (&mut file as &mut dyn io::Read, &Pick::Only, None);
            return Ok(self.add_archive(Some(reference), from, options, builder, report)?);
        }
        let base = prepare(&path, self.dir(), &Limits::default())?;
        let base = if base.path.parent() == Some(self.dir()) {
            base.path
        } else {
            self.copy_disk(&base.path).map_err(file_error)?
        };
        let record = Record {
            reference,
            manifest_digest: None,
            config_digest: None,
            base: base.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            base_length: base.metadata().ok().map(|about| about.len()),
            layers: Vec::new(),
            platform: options.platform.clone(),
            size: allocated(&base),
            created: None,
            pulled_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
            stamp: None,
        };
        self.records.write(&record).map_err(file_error)?;
        self.image(record).ok_or_else(|| file_error(io::ErrorKind::NotFound.into()))
    }

    /// Copies a disk, without its zeros, to a name by its digest.
    fn copy_disk(&self, from: &Path) -> io::Result<PathBuf> {
        let mut input = File::open(from)?;
        let mut file = temp_in(self.dir())?;
        let mut hasher = Hasher::default();
        let mut block = vec![0; 64 << 10];
        let mut size = 0u64;
        loop {
            let mut chunk = (&mut input).take(64 << 10);
            block.clear();
            let got = chunk.read_to_end(&mut block)?;
            if got == 0 {
                break;
            }
            size = size.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
            hasher.update(&block);
            if block.iter().any(|byte| *byte != 0) {
                file.as_file_mut().write_all(&block)?;
            } else {
                file.as_file_mut().seek(SeekFrom::Start(size))?;
            }
        }
        file.as_file().set_len(size)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o400))?;
        file.as_file().sync_all()?;
        let path = self.dir().join(format!("{}.ext4", hasher.finish().hex()));
        file.persist(&path).map_err(|error| error.error)?;
        sync_dir(self.dir())?;
        Ok(path)
    }
}

/// The canonical form of a name that may be given to an image.
fn imported_name(name: &str) -> Result<String, ImportError> {
    if name.is_empty() {
        return Err(SourceError::Empty.into());
    }
    let parsed = registry_name(name)?;
    if parsed.digest().is_some() {
        return Err(ImportError::Pinned { name: name.to_owned() });
    }
    match Source::parse(name)? {
        Source::Registry(_) => Ok(parsed.whole()),
        Source::Layout { .. } | Source::Archive { .. } => {
            Err(ImportError::Reserved { name: name.to_owned() })
        }
    }
}

/// Whether a file is a tar, compressed or not, with `manifest.json`, or `index.json` and `oci-layout`, at its top, and
/// without what a root directory has there.
fn is_image_archive(path: &Path) -> io::Result<bool> {
    // A decoder that finds the content damaged need not say so: whoever imports it will.
    let Ok(content) = decoder(File::open(path)?) else {
        return Ok(false);
    };
    let mut archive = Archive::new(content, MAX_ARCHIVE_BYTES);
    let (mut docker, mut index, mut layout) = (false, false, false);
    let members = iter::from_fn(|| archive.next_member().ok().flatten());
    // Whatever else is wrong with it, it is then no archive of an image.
    for Member { path: name, .. } in members.take(20_000) {
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        let top = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        if [&b"bin"[..], b"dev", b"etc", b"lib", b"proc", b"sbin", b"usr"].contains(&top) {
            return Ok(false);
        }
        match name {
            b"manifest.json" => docker = true,
            b"index.json" => index = true,
            b"oci-layout" => layout = true,
            _ => {}
        }
    }
    Ok(docker || (index && layout))
}
