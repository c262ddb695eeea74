//! OCI layouts made of others: another layer, another configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// A copy of an OCI layout with one image, to be changed.
#[derive(Debug)]
pub struct Layout {
    /// Where it is.
    pub dir: PathBuf,
}

impl Layout {
    /// Copies the layout `from` to `dir`.
    ///
    /// # Panics
    ///
    /// When it cannot be copied.
    #[must_use]
    pub fn copy(from: &Path, dir: PathBuf) -> Self {
        run(Command::new("cp").arg("-a").arg(from).arg(&dir));
        Self { dir }
    }

    /// What `bandsox` is to be told.
    #[must_use]
    pub fn name(&self) -> String {
        format!("oci:{}", self.dir.display())
    }

    /// Puts a tar on top, by `umoci`.
    ///
    /// # Panics
    ///
    /// When `umoci` fails.
    #[must_use]
    pub fn with_layer(self, tar: &[u8]) -> Self {
        let layer = self.dir.with_extension("layer.tar");
        fs::write(&layer, tar).expect("written");
        let image = format!("{}:{}", self.dir.display(), crate::IMAGE_TAG);
        run(Command::new("umoci").args(["raw", "add-layer", "--image", &image]).arg(&layer));
        self
    }

    /// Changes the part of the configuration that says how to run.
    ///
    /// # Panics
    ///
    /// When the layout is not as `umoci` writes it.
    #[must_use]
    pub fn with_config(self, change: Value) -> Self {
        let index_path = self.dir.join("index.json");
        let mut index = json_of(&index_path);
        let mut manifest = self.blob(&index["manifests"][0]);
        let mut image = self.blob(&manifest["config"]);
        let config = image["config"].as_object_mut().expect("an object");
        config.extend(change.as_object().expect("an object").clone());
        self.put(&mut manifest["config"], &image);
        self.put(&mut index["manifests"][0], &manifest);
        fs::write(&index_path, index.to_string()).expect("written");
        self
    }

    fn blob(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().expect("text");
        json_of(&self.dir.join("blobs").join(digest.replace(':', "/")))
    }

    fn put(&self, descriptor: &mut Value, blob: &Value) {
        let text = blob.to_string();
        let path = self.dir.join("new-blob");
        fs::write(&path, &text).expect("written");
        let said = run(Command::new("sha256sum").arg(&path));
        let hex = said.split(' ').next().unwrap_or_default();
        fs::rename(&path, self.dir.join("blobs/sha256").join(hex)).expect("renamed");
        descriptor["digest"] = json!(format!("sha256:{hex}"));
        descriptor["size"] = json!(text.len());
    }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON")
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("installed (cargo xtask test sees to it)");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
