//! What the tests of images stand on: a storage directory, and OCI layouts made by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bandsox_oci::Digest;
use bandsox_store::{Create, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::{bandsox, outcome};

/// A storage directory, and OCI layouts beside it.
pub(crate) struct Images {
    dir: TempDir,
}

impl Images {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Store::open(&dir.path().join("storage"), Create::Yes).expect("opens");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `bandsox ARGS` beside the layouts: exit code, standard output, standard error.
    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        outcome(&mut self.command(args))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bandsox();
        command.env("BANDSOX_STORAGE", self.path("storage")).env_remove("BANDSOX_REGISTRY_MIRROR");
        command.args(args).current_dir(self.dir.path());
        command
    }

    /// What a command prints that succeeds.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {err}");
        out.trim_end().to_owned()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// What a command says that fails.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}: {err}");
        err
    }

    /// A layout `name` with one image `tag` of one empty layer and this configuration.
    pub(crate) fn layout(&self, name: &str, tag: &str, architecture: &str, config: &Value) {
        self.layout_of(&[0; 1024], (name, tag), architecture, config);
    }

    /// As [`Images::layout`], of one layer that is this tar.
    pub(crate) fn layout_of(
        &self,
        layer: &[u8],
        (name, tag): (&str, &str),
        architecture: &str,
        config: &Value,
    ) {
        let layout = self.path(name);
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("made");
        let put = |bytes: &[u8], kind: &str| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).expect("written");
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layer = put(layer, "layer.v1.tar");
        let config = json!({"os": "linux", "architecture": architecture, "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = put(config.to_string().as_bytes(), "config.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let mut manifest = put(manifest.to_string().as_bytes(), "manifest.v1+json");
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        write(&layout.join("oci-layout"), &json!({"imageLayoutVersion": "1.0.0"}));
        write(&layout.join("index.json"), &json!({"schemaVersion": 2, "manifests": [manifest]}));
    }
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).expect("written");
}
