//! What goes wrong when a file is added to an image, whatever it comes from.

use bandsox_erofs::{StoreError, TreeError, Xattr, XattrError};

/// Why a file could not be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Its path, kind or number.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An extended attribute.
    #[error("{path:?} cannot be stored")]
    Xattr {
        /// The file, as its source names it.
        path: String,
        /// What is wrong with the attribute.
        source: XattrError,
    },
    /// Its content.
    #[error("{path:?} cannot be stored")]
    Data {
        /// The file, as its source names it.
        path: String,
        /// What went wrong.
        source: StoreError,
    },
}

/// Attributes in the order in which they are stored, without those that EROFS has no place for.
pub(super) fn xattrs<'a>(
    path: &[u8],
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Vec<Xattr>, AddError> {
    let mut xattrs = Vec::new();
    for (name, value) in pairs {
        let xattr = Xattr::new(name, value)
            .map_err(|source| AddError::Xattr { path: shown(path), source })?;
        xattrs.extend(xattr);
    }
    xattrs.sort();
    Ok(xattrs)
}

/// A path for an error message.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path.get(..path.len().min(512)).unwrap_or_default()).into_owned()
}
