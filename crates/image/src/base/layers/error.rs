//! What goes wrong with layers.

use std::io;
use std::path::PathBuf;

use bandsox_erofs::FinishError;

use super::super::prepare::PrepareError;
use super::super::tar::TarError;

/// Why one layer could not be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// Its archive is damaged, hostile or too large, or one of its members cannot be stored.
    #[error(transparent)]
    Tar(TarError),
    /// A marker that would remove its own directory, or the one above.
    #[error("member {member:?} removes nothing that could have a name")]
    EmptyWhiteout {
        /// The marker's path.
        member: String,
    },
    /// A member in a directory whose name begins with `.wh.`, which only markers may.
    #[error("member {member:?} is in a directory whose name is reserved for removals")]
    ReservedName {
        /// The member's path.
        member: String,
    },
    /// Something other than zeros behind the end of the archive.
    #[error(
        "there is something behind the archive's end, at byte {offset} of the decompressed layer"
    )]
    Trailing {
        /// Where it begins.
        offset: u64,
    },
    /// A digest of the content that is none, or not of a kind that we know.
    #[error(
        "the image's configuration gives it the digest {diff_id:?}; want sha256: and 64 hexadecimal digits"
    )]
    UnknownDiffId {
        /// The digest as the configuration has it.
        diff_id: String,
    },
    /// The content is not what the image's configuration says.
    #[error(
        "its content has the digest sha256:{got}, while the image's configuration says sha256:{want}"
    )]
    WrongDiffId {
        /// Hex SHA-256 that was promised.
        want: String,
        /// Hex SHA-256 that was found.
        got: String,
    },
}

/// Why layers could not become an image; `E` is what the source of the layers can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayersError<E> {
    /// The next layer did not come.
    #[error(transparent)]
    Source(E),
    /// A layer cannot be used.
    #[error("layer {label} cannot be used")]
    Layer {
        /// The layer, as its source names it.
        label: String,
        /// What is wrong with it.
        source: LayerError,
    },
    /// The image cannot be completed.
    #[error("could not build an image of the layers")]
    Build(#[source] FinishError),
    /// The finished image cannot be put in its place.
    #[error("could not store an image in {dir}")]
    Store {
        /// The images directory.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The image in the store cannot be opened.
    #[error(transparent)]
    Open(PrepareError),
}

/// The decompressed layers together are over their limit.
#[derive(Debug, thiserror::Error)]
#[error("the decompressed layers have more than {limit} bytes")]
pub(super) struct TooMuch {
    /// The limit.
    pub(super) limit: u64,
}
