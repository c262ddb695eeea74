//! A VM that is about to be written down for the first time.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bandsox_spec::{
    DiskSizeMib, EngineChoice, EnvVar, ImageConfig, MemMib, Phase, Vcpus, VmId, VmName,
};
use serde_json::{Map, Value, json};

use super::{IMAGE_REFERENCE, Metadata, PathNotText, text_of, time};

/// Everything about a VM that its creator decides.
#[derive(Clone, Debug)]
pub struct NewVm {
    /// Its name, if it is to have one.
    pub name: Option<VmName>,
    /// The image as its creator named it.
    pub image: String,
    /// The image's canonical name; `None` for a VM of a path.
    pub image_reference: Option<String>,
    /// The prepared base image.
    pub rootfs_path: PathBuf,
    /// What that base image is, to be checked at every start.
    pub base_identity: Value,
    /// How many CPUs.
    pub vcpus: Vcpus,
    /// How much memory.
    pub mem_mib: MemMib,
    /// How large a writable disk.
    pub disk_size_mib: DiskSizeMib,
    /// The environment of what runs in it.
    pub env_vars: Vec<EnvVar>,
    /// Which engine.
    pub engine: EngineChoice,
    /// What the image says about its program.
    pub image_config: ImageConfig,
}

impl NewVm {
    /// The metadata of this VM under an id. vsock is on from the beginning; CID and port come with
    /// each start.
    pub(crate) fn into_metadata(self, id: &VmId, overlay: &Path) -> Result<Metadata, PathNotText> {
        let rootfs = text_of(&self.rootfs_path)?.to_owned();
        let env: Map<String, Value> = self
            .env_vars
            .iter()
            .map(|variable| (variable.key().to_owned(), variable.value().into()))
            .collect();
        let entries = [
            ("id", json!(id)),
            ("name", json!(self.name)),
            ("image", json!(self.image)),
            ("vcpu", json!(self.vcpus)),
            ("mem_mib", json!(self.mem_mib)),
            ("disk_size_mib", json!(self.disk_size_mib)),
            ("rootfs_path", json!(rootfs)),
            ("network_config", Value::Null),
            ("vsock_config", json!({"enabled": true})),
            ("created_at", time::format(SystemTime::now())),
            ("status", json!(Phase::Created)),
            ("pid", Value::Null),
            ("env_vars", Value::Object(env)),
            ("mcp", Value::Null),
            ("metadata", json!({})),
            ("engine", json!(self.engine)),
            ("overlay_path", json!(text_of(overlay)?)),
            ("base_identity", self.base_identity),
            ("status_reason", Value::Null),
            ("image_config", json!(self.image_config)),
        ];
        let reference = self.image_reference.map(|reference| (IMAGE_REFERENCE, json!(reference)));
        let entries = entries.into_iter().chain(reference);
        let object = entries.map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(Metadata { id: id.clone(), object })
    }
}
