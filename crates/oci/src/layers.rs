//! The builder that makes real base images.

use std::error::Error;
use std::path::{Path, PathBuf};

use bandsox_image::base::{self, Limits, Progress};

use crate::builder::{BaseBuilder, Layer, LayerMissing};

/// Writes layers by [`base::from_layers`].
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// How much an image may cost.
    pub limits: Limits,
}

impl BaseBuilder for Layers {
    fn build(
        &self,
        layers: &mut dyn Iterator<Item = Result<Layer, LayerMissing>>,
        key: &str,
        images_dir: &Path,
        report: &mut dyn FnMut(usize, u64),
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        let mut progress = |progress: Progress<'_>| match progress {
            Progress::Layer { index, done_bytes, .. } => report(index, done_bytes),
            Progress::Finishing => {}
        };
        let built = base::from_layers(layers, key, images_dir, &self.limits, &mut progress)?;
        Ok(built.path)
    }
}
