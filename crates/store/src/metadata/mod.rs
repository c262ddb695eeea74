//! What is written down about one VM.
//!
//! ```text
//!   metadata/<id>.json --Metadata::parse--> Metadata --Metadata::to_bytes--> metadata/<id>.json
//! ```
//!
//! The JSON object itself is kept, in the order of its keys, and the accessors look into it: keys
//! that this version does not know, and the way in which an older one spelled what it does know,
//! come out of a rewrite as they went in. `parse` checks the shape of every key that we read, so
//! that an accessor cannot fail later.

mod check;
mod new;
mod time;
mod vsock;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bandsox_spec::{
    DiskSizeMib, EngineChoice, EnvVar, ImageConfig, MemMib, Phase, SizeError, StopReason, Vcpus,
    VmId, VmName,
};
use serde_json::{Map, Value};

use crate::identity::ProcessIdentity;
use crate::lease::Lease;

pub use check::{Damage, WrongType};
pub use new::NewVm;
pub use vsock::{Transport, VsockConfig, VsockRequired};

/// What is written down about one VM: `metadata/<id>.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    id: VmId,
    object: Map<String, Value>,
}

impl Metadata {
    /// Largest file that is read. Unit: bytes. An honest one has a few thousand.
    pub const MAX_BYTES: u64 = 1 << 20;

    /// Reads the content of the file that is named after `id`.
    ///
    /// # Errors
    ///
    /// [`Damage`] if it is not what some version of BandSox could have written.
    pub fn parse(id: &VmId, bytes: &[u8]) -> Result<Self, Damage> {
        check::parse(id, bytes).map(|object| Self { id: id.clone(), object })
    }

    /// The file's content: indented JSON and a newline at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(&self.object)
            .expect("an object with text for keys is always JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Everything, as it is in the file.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Which VM this is about.
    #[must_use]
    pub fn id(&self) -> &VmId {
        &self.id
    }

    /// The VM's name, if it has one. Older versions allowed any text.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// Gives the VM another name. Whether it is taken is the store's to know.
    pub fn set_name(&mut self, name: &VmName) {
        self.set("name", name.as_str().into());
    }

    /// The image that the VM was made from, as its creator named it.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.text("image")
    }

    /// The canonical name of the image that the VM was made from; `None` if it was made from a path, or if the file does not
    /// say, as those of older versions.
    #[must_use]
    pub fn image_reference(&self) -> Option<&str> {
        self.text(IMAGE_REFERENCE)
    }

    /// How many CPUs the VM has; the default if the file does not say.
    ///
    /// # Errors
    ///
    /// [`SizeError`] if the file says something out of range.
    pub fn vcpus(&self) -> Result<Vcpus, SizeError> {
        self.whole("vcpu").map_or(Ok(Vcpus::default()), Vcpus::try_from)
    }

    /// How much memory the VM has; the default if the file does not say.
    ///
    /// # Errors
    ///
    /// [`SizeError`] if the file says something out of range.
    pub fn mem_mib(&self) -> Result<MemMib, SizeError> {
        self.whole("mem_mib").map_or(Ok(MemMib::default()), MemMib::try_from)
    }

    /// How large the VM's writable disk is; the default if the file does not say.
    ///
    /// # Errors
    ///
    /// [`SizeError`] if the file says something out of range.
    pub fn disk_size_mib(&self) -> Result<DiskSizeMib, SizeError> {
        self.whole("disk_size_mib").map_or(Ok(DiskSizeMib::default()), DiskSizeMib::try_from)
    }

    /// The image that the VM's root is made from, or was copied to by older versions. Never
    /// written to and never deleted.
    #[must_use]
    pub fn rootfs_path(&self) -> Option<&Path> {
        self.text("rootfs_path").map(Path::new)
    }

    /// The VM's writable disk. Absent in the files of older versions.
    #[must_use]
    pub fn overlay_path(&self) -> Option<&Path> {
        self.text("overlay_path").map(Path::new)
    }

    /// Writes down where the VM's writable disk is.
    ///
    /// # Errors
    ///
    /// [`PathNotText`] if JSON cannot hold the path.
    pub fn set_overlay_path(&mut self, path: &Path) -> Result<(), PathNotText> {
        let text = text_of(path)?;
        self.set("overlay_path", text.into());
        Ok(())
    }

    /// What the base image was when the VM was created, in the words of whoever checks it.
    #[must_use]
    pub fn base_identity(&self) -> Option<&Value> {
        self.object.get("base_identity").filter(|value| !value.is_null())
    }

    /// Writes down what the base image is.
    pub fn set_base_identity(&mut self, identity: Value) {
        self.set("base_identity", identity);
    }

    /// Whether and how the VM uses vsock.
    #[must_use]
    pub fn vsock(&self) -> VsockConfig {
        VsockConfig::of(self.object.get("vsock_config"))
    }

    /// Writes down, or takes back, the CID and port that the VM has while it runs. Other keys of
    /// `vsock_config` stay; where there is none, nothing is written.
    pub(crate) fn set_lease(&mut self, lease: Option<Lease>) {
        let Some(Value::Object(config)) = self.object.get_mut("vsock_config") else { return };
        match lease {
            Some(Lease { cid, port }) => {
                config.insert("cid".to_owned(), cid.into());
                config.insert("port".to_owned(), port.into());
            }
            None => {
                config.shift_remove("cid");
                config.shift_remove("port");
            }
        }
    }

    /// When the VM was created, if the file says so in a form we know.
    #[must_use]
    pub fn created_at(&self) -> Option<SystemTime> {
        self.object.get("created_at").and_then(time::parse)
    }

    /// The phase that was written down last. An unknown or missing one counts as stopped, since
    /// nothing else can be said of a VM that has no monitor.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.text("status").map(str::parse) {
            Some(Ok(Phase::Damaged) | Err(_)) | None => Phase::Stopped,
            Some(Ok(phase)) => phase,
        }
    }

    /// Writes a phase down.
    pub fn set_phase(&mut self, phase: Phase) {
        self.set("status", phase.as_str().into());
    }

    /// Why the VM is not running any more.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        let reason = self.object.get("status_reason").filter(|value| !value.is_null())?;
        serde_json::from_value(reason.clone()).ok()
    }

    /// Writes down why the VM is not running any more, or that it is.
    pub fn set_stop_reason(&mut self, reason: Option<&StopReason>) {
        let value = reason.map_or(Value::Null, |reason| {
            serde_json::to_value(reason).expect("a reason is plain data")
        });
        self.set("status_reason", value);
    }

    /// The number of the process that runs the VM. By itself it identifies nothing.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.whole("pid").and_then(|pid| u32::try_from(pid).ok())
    }

    /// Which process runs the VM. Absent in the files of older versions.
    #[must_use]
    pub fn process(&self) -> Option<ProcessIdentity> {
        Some(ProcessIdentity {
            pid: self.pid()?,
            start: self.whole("pid_start")?,
            boot_id: self.boot_id()?.to_owned(),
        })
    }

    /// The boot of the host during which the VM was started last.
    #[must_use]
    pub fn boot_id(&self) -> Option<&str> {
        self.text("boot_id")
    }

    /// Writes down which process runs the VM, or that none does.
    pub fn set_process(&mut self, process: Option<&ProcessIdentity>) {
        match process {
            Some(ProcessIdentity { pid, start, boot_id }) => {
                self.set("pid", (*pid).into());
                self.set("pid_start", (*start).into());
                self.set("boot_id", boot_id.as_str().into());
            }
            None => {
                self.set("pid", Value::Null);
                self.object.shift_remove("pid_start");
                self.object.shift_remove("boot_id");
            }
        }
    }

    /// The environment of what runs in the VM. Numbers and booleans are taken as older versions
    /// would have printed them; what no process can be given is left out.
    #[must_use]
    pub fn env_vars(&self) -> Vec<EnvVar> {
        let Some(Value::Object(vars)) = self.object.get("env_vars") else { return Vec::new() };
        vars.iter()
            .filter_map(|(key, value)| EnvVar::new(key, &check::env_value(value)?).ok())
            .collect()
    }

    /// What the image says about its program; nothing in the files of older versions, or if what is there is none.
    #[must_use]
    pub fn image_config(&self) -> ImageConfig {
        let recorded = self.object.get("image_config").cloned();
        let parsed = recorded.and_then(|value| serde_json::from_value::<ImageConfig>(value).ok());
        parsed.map(|config| config.usable().0).unwrap_or_default()
    }

    /// Which engine was asked for.
    #[must_use]
    pub fn engine(&self) -> EngineChoice {
        self.text("engine").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Sets a key of the file; a known one must keep its shape.
    pub fn set(&mut self, key: &str, value: Value) {
        self.object.insert(key.to_owned(), value);
    }

    /// Every path that the file names, whichever key it is under: what must not be reclaimed.
    pub(crate) fn referenced_paths(&self) -> Vec<PathBuf> {
        ["image", "rootfs_path", "overlay_path"]
            .into_iter()
            .filter_map(|key| self.text(key))
            .map(PathBuf::from)
            .collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.object.get(key).and_then(Value::as_str)
    }

    fn whole(&self, key: &str) -> Option<u64> {
        self.object.get(key).and_then(check::whole)
    }
}

const IMAGE_REFERENCE: &str = "image_reference";

/// A path that metadata cannot hold, because JSON holds text only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {} is not UTF-8; metadata cannot hold it", path.display())]
pub struct PathNotText {
    /// The path.
    pub path: PathBuf,
}

fn text_of(path: &Path) -> Result<&str, PathNotText> {
    path.to_str().ok_or_else(|| PathNotText { path: path.to_owned() })
}

#[cfg(test)]
mod tests;
