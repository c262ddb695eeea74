//! Writing an image out, for other programs.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::draft::Draft;
use super::list::ResolveError;
use crate::atomic::{TEMP_PREFIX, temp_in};
use crate::digest::{Digest, Hasher};
use crate::local::layout::is_layout;
use crate::lock::LockError;
use crate::manifest::{self, Document, MAX_DOCUMENT_BYTES, Manifest, OCI_MANIFEST};
use crate::name::registry_name;
use crate::record::Record;
use crate::source::shown;
use crate::store::ImageStore;

/// Where an image is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// A directory in OCI layout: a new one, or one to which the image is added.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The image's name in it; its tag if that is `None`.
        tag: Option<String>,
    },
    /// A tar of an OCI layout.
    OciArchive(Output),
    /// What `docker load` reads.
    DockerArchive(Output),
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A file, which appears when it is whole.
    File(PathBuf),
    /// Our standard output.
    Stdout,
}

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is no such image.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The images cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It was made of a disk, a directory or a plain tar.
    #[error(
        "image {} has no layers to export: it was not made from an OCI image",
        shown(reference)
    )]
    NoLayers {
        /// Its name.
        reference: String,
    },
    /// The destination is a layout whose index cannot be used, or that cannot be locked.
    #[error("could not add to the layout at {path}")]
    Layout {
        /// The destination.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A blob is not there, or not what its name says.
    #[error("{digest} is missing or damaged; pull the image again")]
    Damaged {
        /// The blob.
        digest: Digest,
    },
    /// The destination is a directory with something else in it.
    #[error("{path} is neither empty nor an OCI layout")]
    NotALayout {
        /// The destination.
        path: PathBuf,
    },
    /// The destination cannot be written.
    #[error("could not write image {}", shown(reference))]
    Write {
        /// Its name.
        reference: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Something that files can be put into.
trait Sink {
    fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()>;
}

struct Dir<'a>(&'a Path);

struct Tar<W: Write>(tar::Builder<W>);

impl Sink for Dir<'_> {
    fn put(&mut self, name: &str, _size: u64, content: &mut dyn Read) -> io::Result<()> {
        let path = self.0.join(name);
        let parent = path.parent().unwrap_or(self.0);
        fs::create_dir_all(parent)?;
        let mut file = temp_in(parent)?;
        io::copy(content, file.as_file_mut())?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl<W: Write> Sink for Tar<W> {
    fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.0.append_data(&mut header, name, content)
    }
}

/// An image whose blobs are all in the store.
struct Parts {
    record: Record,
    bytes: Vec<u8>,
    digest: Digest,
    manifest: Manifest,
}

impl ImageStore {
    /// Writes the image that a name or a digest stands for. The same image gives the same bytes.
    ///
    /// # Errors
    ///
    /// [`ExportError`]. A file does not appear; a layout may have gained blobs.
    pub fn export(&self, name: &str, cwd: &Path, to: &Destination) -> Result<(), ExportError> {
        let _kept = self.keep()?;
        let parts = self.parts(self.resolve(name, cwd)?)?;
        match to {
            Destination::Layout { dir, tag } => {
                self.to_layout(&parts, &cwd.join(dir), tag.as_deref())
            }
            Destination::OciArchive(output) => self
                .to_output(&parts, cwd, output, |tar| self.write_layout(&parts, None, None, tar)),
            Destination::DockerArchive(output) => {
                self.to_output(&parts, cwd, output, |tar| self.write_docker(&parts, tar))
            }
        }
    }

    fn parts(&self, record: Record) -> Result<Parts, ExportError> {
        let Some(digest) = record.manifest_digest.clone() else {
            return Err(ExportError::NoLayers { reference: record.reference });
        };
        let bytes = self.blobs.document(&digest, MAX_DOCUMENT_BYTES);
        let bytes = bytes.ok_or_else(|| ExportError::Damaged { digest: digest.clone() })?;
        match manifest::parse(&bytes) {
            Ok(Document::Image(manifest)) => Ok(Parts { record, bytes, digest, manifest }),
            Ok(Document::Index(_)) | Err(_) => Err(ExportError::Damaged { digest }),
        }
    }

    fn to_layout(&self, parts: &Parts, dir: &Path, tag: Option<&str>) -> Result<(), ExportError> {
        if !is_layout(dir) && !is_begun(dir) {
            return Err(ExportError::NotALayout { path: dir.to_owned() });
        }
        let error = |source| ExportError::Layout { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(error)?;
        // Two exports into one layout would lose one's line in the index.
        let alone = File::open(dir).map_err(error)?;
        flock(&alone, FlockOperation::LockExclusive).map_err(|errno| error(errno.into()))?;
        for dir in [dir, &dir.join("blobs/sha256")] {
            delete_temporary(dir).map_err(error)?;
        }
        let index = existing(dir).map_err(error)?;
        self.write_layout(parts, tag, index, &mut Dir(dir))
    }

    fn to_output(
        &self,
        parts: &Parts,
        cwd: &Path,
        output: &Output,
        fill: impl Fn(&mut dyn Sink) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let error = |source| parts.write_error(source);
        match output {
            Output::Stdout => {
                let mut tar = Tar(tar::Builder::new(io::stdout().lock()));
                fill(&mut tar)?;
                tar.0.into_inner().and_then(|mut out| out.flush()).map_err(error)
            }
            Output::File(path) => {
                let draft = Draft::begin(&cwd.join(path)).map_err(error)?;
                let mut tar = Tar(tar::Builder::new(draft));
                fill(&mut tar)?;
                tar.0.into_inner().and_then(Draft::publish).map_err(error)
            }
        }
    }

    /// Blobs first, the index last.
    fn write_layout(
        &self,
        parts: &Parts,
        tag: Option<&str>,
        index: Option<serde_json::Value>,
        sink: &mut dyn Sink,
    ) -> Result<(), ExportError> {
        let Manifest { config, layers } = &parts.manifest;
        parts.put(sink, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let mut written = std::collections::BTreeSet::new();
        for part in layers.iter().chain([config]) {
            if written.insert(&part.digest) {
                let name = format!("blobs/sha256/{}", part.digest.hex());
                self.put_blob(parts, sink, &name, &part.digest)?;
            }
        }
        parts.put(sink, &format!("blobs/sha256/{}", parts.digest.hex()), &parts.bytes)?;
        let tag = tag.map_or_else(|| parts.tag(), str::to_owned);
        let mut index = index.unwrap_or_else(|| json!({"schemaVersion": 2, "manifests": []}));
        let entry = json!({
            "mediaType": parts.media_type(),
            "digest": parts.digest,
            "size": parts.bytes.len(),
            "annotations": {NAME: tag},
        });
        if let Some(manifests) = index.get_mut("manifests").and_then(|it| it.as_array_mut()) {
            let named = |it: &serde_json::Value| {
                it.get("annotations")?.get(NAME)?.as_str().map(str::to_owned)
            };
            manifests.retain(|it| named(it).as_ref() != Some(&tag));
            manifests.push(entry);
        }
        parts.put(sink, "index.json", index.to_string().as_bytes())
    }

    fn write_docker(&self, parts: &Parts, sink: &mut dyn Sink) -> Result<(), ExportError> {
        let Manifest { config, layers } = &parts.manifest;
        let name = |digest: &Digest| format!("{}.tar", digest.hex());
        let mut written = std::collections::BTreeSet::new();
        for layer in layers {
            if written.insert(&layer.digest) {
                self.put_blob(parts, sink, &name(&layer.digest), &layer.digest)?;
            }
        }
        let config_name = format!("{}.json", config.digest.hex());
        self.put_blob(parts, sink, &config_name, &config.digest)?;
        let tags: Vec<String> = registry_name(&parts.record.reference)
            .ok()
            .filter(|name| name.tag().is_some())
            .map(|name| format!("{}/{}:{}", name.registry(), name.repository(), parts.tag()))
            .into_iter()
            .collect();
        let names: Vec<String> = layers.iter().map(|layer| name(&layer.digest)).collect();
        let text = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
        parts.put(sink, "manifest.json", text.to_string().as_bytes())
    }

    /// Copies a blob, and checks it on the way.
    fn put_blob(
        &self,
        parts: &Parts,
        sink: &mut dyn Sink,
        name: &str,
        digest: &Digest,
    ) -> Result<(), ExportError> {
        let damaged = || ExportError::Damaged { digest: digest.clone() };
        let file = self.blobs.reader(digest).map_err(|_| damaged())?;
        let size = self.blobs.size(digest).ok_or_else(damaged)?;
        let mut content = Checked { file, hasher: Hasher::default(), digest, damaged: false };
        let put = sink.put(name, size, &mut content);
        if content.damaged { Err(damaged()) } else { put.map_err(|it| parts.write_error(it)) }
    }
}

impl Parts {
    fn put(&self, sink: &mut dyn Sink, name: &str, mut bytes: &[u8]) -> Result<(), ExportError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        sink.put(name, size, &mut bytes).map_err(|source| self.write_error(source))
    }

    fn tag(&self) -> String {
        let name = registry_name(&self.record.reference).ok();
        name.and_then(|name| name.tag().map(str::to_owned)).unwrap_or_else(|| "latest".to_owned())
    }

    fn media_type(&self) -> String {
        let value: Option<serde_json::Value> = serde_json::from_slice(&self.bytes).ok();
        let given = value.as_ref().and_then(|value| value.get("mediaType")?.as_str());
        given.unwrap_or(OCI_MANIFEST).to_owned()
    }

    fn write_error(&self, source: io::Error) -> ExportError {
        ExportError::Write { reference: self.record.reference.clone(), source }
    }
}

/// A blob that ends in an error if it is not what its name says, so that nobody keeps a copy of it.
struct Checked<'a> {
    file: File,
    hasher: Hasher,
    digest: &'a Digest,
    damaged: bool,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..got).unwrap_or_default());
        if got == 0 && !buffer.is_empty() {
            self.damaged |= std::mem::take(&mut self.hasher).finish() != *self.digest;
        }
        if self.damaged { Err(io::ErrorKind::InvalidData.into()) } else { Ok(got) }
    }
}

/// The index of a layout that is there already. One that we do not understand is not ours to replace.
fn existing(dir: &Path) -> io::Result<Option<serde_json::Value>> {
    let mut bytes = Vec::new();
    let file = match File::open(dir.join("index.json")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes)?;
    let index: serde_json::Value = serde_json::from_slice(&bytes)?;
    let listed = index.get("manifests").is_some_and(serde_json::Value::is_array);
    if listed { Ok(Some(index)) } else { Err(io::Error::other("index.json lists no manifests")) }
}

/// Whether a directory is not there, or has nothing but what a killed export leaves.
fn is_begun(dir: &Path) -> bool {
    let ours =
        |name: &str| ["oci-layout", "blobs"].contains(&name) || name.starts_with(TEMP_PREFIX);
    match fs::read_dir(dir) {
        Ok(mut entries) => entries
            .all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(ours))),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Deletes what a killed export left.
fn delete_temporary(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

const NAME: &str = "org.opencontainers.image.ref.name";
