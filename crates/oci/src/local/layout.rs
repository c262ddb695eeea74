//! A directory in OCI image layout.
//!
//! Source: OCI image specification 1.1, image-layout.md.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::LocalError;
use crate::blobs::{FetchError, Origin, Patience, Piece};
use crate::digest::Digest;
use crate::manifest::{Descriptor, MAX_DOCUMENT_BYTES, Manifest};
use crate::platform::Platform;
use crate::source::Pick;

/// An OCI layout that is there.
pub(crate) struct Layout {
    dir: PathBuf,
    patience: Patience,
}

impl Layout {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, LocalError> {
        if !is_layout(&dir) {
            return Err(LocalError::NotALayout { path: dir });
        }
        // What a file does not have now it will not have later.
        Ok(Self { dir, patience: Patience { attempts: 1, ..Patience::default() } })
    }

    /// The manifest of an image, with its bytes.
    pub(crate) fn manifest(
        &self,
        which: &Pick,
        platform: &Platform,
    ) -> Result<(Vec<u8>, Manifest), LocalError> {
        let path = self.dir.join("index.json");
        let index =
            document(&path).map_err(|source| LocalError::File { path: path.clone(), source })?;
        super::follow(&index, which, platform, |digest| {
            let bytes = document(&self.blob(digest)).ok();
            bytes
                .filter(|bytes| Digest::of(bytes) == *digest)
                .ok_or_else(|| LocalError::Blob { name: digest.to_string() })
        })
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }
}

impl Origin for Layout {
    fn open(&self, what: &Descriptor, offset: u64) -> Result<Piece, FetchError> {
        let path = self.blob(&what.digest);
        let open = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        let file = open().map_err(|source| FetchError::File { path: path.clone(), source })?;
        Ok(Piece { from: offset, reader: Box::new(file) })
    }

    fn patience(&self) -> &Patience {
        &self.patience
    }
}

/// Whether a directory looks like a layout.
pub(crate) fn is_layout(dir: &Path) -> bool {
    dir.join("oci-layout").is_file() && dir.join("index.json").is_file()
}

fn document(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_DOCUMENT_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(len) if len <= MAX_DOCUMENT_BYTES => Ok(bytes),
        Ok(_) | Err(_) => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
