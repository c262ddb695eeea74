//! What makes a base image of layers.

use std::error::Error;
use std::path::{Path, PathBuf};

pub use bandsox_image::base::Layer;

/// A layer did not arrive. Why, the pull says; whoever builds only passes this on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the layer did not arrive")]
pub struct LayerMissing;

/// Makes a base image of layers.
pub trait BaseBuilder {
    /// Writes the layers, from the lowest up, into one image below `images_dir`, and says where it is.
    ///
    /// The iterator blocks until its next layer is there, so that one layer is written while the next is on its way. `key` is
    /// equal for equal layers: who finds that it has built them before need not ask for any. `report` takes the number of a
    /// layer, from zero, and how many bytes of its blob are in the image.
    ///
    /// # Errors
    ///
    /// Whatever stopped it. Nothing is left behind in `images_dir`.
    fn build(
        &self,
        layers: &mut dyn Iterator<Item = Result<Layer, LayerMissing>>,
        key: &str,
        images_dir: &Path,
        report: &mut dyn FnMut(usize, u64),
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>>;
}
