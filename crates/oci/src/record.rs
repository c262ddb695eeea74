//! `images/refs/<key>.json`: what a name stands for. Written last, so that what it names is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::digest::Digest;
use crate::platform::Platform;

/// One name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The canonical name.
    pub reference: String,
    /// Of the image for this platform, not of the index; `None` for an image that was made of a disk or a directory.
    pub manifest_digest: Option<Digest>,
    /// `None` as above.
    pub config_digest: Option<Digest>,
    /// The base image's file name in the images directory.
    pub base: String,
    /// How long that file is, holes and all; `None` in records that do not say. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_length: Option<u64>,
    /// The layers, from the lowest up.
    pub layers: Vec<Digest>,
    /// For which machine it is.
    pub platform: Platform,
    /// The layers as they are stored. Unit: bytes.
    pub size: u64,
    /// When it was made, as its config says.
    pub created: Option<String>,
    /// When it was pulled. Unit: seconds since 1970.
    pub pulled_at: u64,
    /// What the source, a file of this host, looked like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
}

impl Record {
    /// Every blob of the image: layers, manifest, config.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        self.layers.iter().chain(&self.manifest_digest).chain(&self.config_digest)
    }
}

/// All records of a store.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

/// What a look at all records gives.
#[derive(Debug, Default)]
pub(crate) struct AllRecords {
    pub(crate) whole: Vec<Record>,
    /// Files that cannot be read as records; what they name is unknown.
    pub(crate) damaged: Vec<PathBuf>,
}

impl Records {
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        atomic::ensure_dir(&dir)?;
        Ok(Self { dir })
    }

    /// The record of a name. A damaged one is as good as none: whoever pulls writes it again.
    pub(crate) fn find(&self, reference: &str) -> Option<Record> {
        let record = read(&self.path(reference)).ok()?;
        (record.reference == reference).then_some(record)
    }

    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(record)?;
        json.push(b'\n');
        atomic::write(&self.path(&record.reference), 0o600, &json)
    }

    pub(crate) fn delete(&self, reference: &str) -> io::Result<()> {
        atomic::delete(&self.path(reference))
    }

    pub(crate) fn all(&self) -> io::Result<AllRecords> {
        let mut all = AllRecords::default();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(record) => all.whole.push(record),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_damage(&error) => all.damaged.push(path),
                Err(error) => return Err(error),
            }
        }
        all.whole.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(all)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, reference: &str) -> PathBuf {
        self.dir.join(format!("{}.json", Digest::of(reference.as_bytes()).hex()))
    }
}

/// Whether the file was read and makes no sense, as opposed to a disk that does not answer.
fn is_damage(error: &io::Error) -> bool {
    [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof].contains(&error.kind())
}

fn read(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    // It becomes part of a path.
    if Path::new(&record.base).file_name().is_none_or(|name| name != record.base.as_str()) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(record)
}
