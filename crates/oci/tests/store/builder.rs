//! A builder whose base is the digests of its layers, so that tests see what it was given.

use std::error::Error;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bandsox_oci::{BaseBuilder, Digest, Layer, LayerMissing};

/// Writes one line per layer into `<sha256 of the lines>.erofs`.
pub(crate) struct Lines;

impl BaseBuilder for Lines {
    fn build(
        &self,
        layers: &mut dyn Iterator<Item = Result<Layer, LayerMissing>>,
        _key: &str,
        images_dir: &Path,
        report: &mut dyn FnMut(usize, u64),
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        let mut lines = String::new();
        for (index, layer) in layers.enumerate() {
            let mut layer = layer?;
            let mut bytes = Vec::new();
            layer.blob.read_to_end(&mut bytes)?;
            if Digest::of(&bytes).to_string() != layer.label {
                return Err(format!("{} is damaged", layer.label).into());
            }
            report(index, bytes.len().try_into()?);
            lines.push_str(&format!("{} {}\n", layer.label, layer.diff_id.unwrap_or_default()));
        }
        let base = images_dir.join(format!("{}.erofs", Digest::of(lines.as_bytes()).hex()));
        std::fs::write(&base, lines)?;
        Ok(base)
    }
}
