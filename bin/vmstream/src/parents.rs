//! Streams whose pages are in others: what these say, applied in order.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use vmstream::message::{Manifest, Pages, Parent, Ram};
use vmstream::{Event, Reader, Rule, chain};

use crate::failure::unfit;
use crate::input::{self, Beside, Source};
use crate::output::{hex, printable};

/// The streams that an incremental one goes on from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Parents {
    /// The stream that has the pages which an incremental one lacks; for longer chains once for each, the newest first
    #[arg(id = "parents", long = "parent", value_name = "STREAM")]
    files: Vec<PathBuf>,
}

/// Takes memory, stream by stream.
pub(crate) trait Target {
    /// Takes the manifest of the oldest stream, before all else; the others have the same memory.
    fn begin(&mut self, manifest: &Manifest) -> anyhow::Result<()>;

    /// Takes pages of memory of so many bytes each.
    fn pages(&mut self, pages: &Pages, bytes: usize) -> anyhow::Result<()>;

    /// Takes pages of disks.
    fn disk(&mut self, _pages: &Pages, _bytes: usize) -> anyhow::Result<()> {
        Ok(())
    }

    /// Takes the bytes of a ram frame.
    fn ram(&mut self, reader: &mut Reader<Source>, ram: &Ram) -> anyhow::Result<()>;
}

/// A stream that has been read, and that another may go on from.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) manifest: Manifest,
    pub(crate) digest: [u8; 32],
    path: PathBuf,
}

impl Link {
    /// How a stream names it that goes on from it.
    pub(crate) fn parent(&self) -> Parent {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        Parent { digest: self.digest, name }
    }

    /// Makes sure that a machine can go on from it.
    pub(crate) fn expect_same_memory(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let manifest = Manifest { parent: Some(self.parent()), ..manifest.clone() };
        expect_link(Some(self), &manifest)
    }
}

impl Parents {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Those that a stream goes on from: none if it has no parent; without the newer ones, where its parent is among them.
    pub(crate) fn below(&self, manifest: &Manifest) -> anyhow::Result<Self> {
        let Some(parent) = &manifest.parent else { return Ok(Self::default()) };
        for (at, path) in self.files.iter().enumerate() {
            if input::digest(path)? == Some(parent.digest) {
                return Ok(Self { files: self.files.get(at..).unwrap_or_default().to_vec() });
            }
        }
        Ok(self.clone())
    }

    /// Applies them, the oldest first. Returns the newest, which the stream itself goes on from; nothing if there are none.
    pub(crate) fn apply(&self, target: &mut impl Target) -> anyhow::Result<Option<Link>> {
        let mut below = None;
        for path in self.files.iter().rev() {
            let link = apply(path, below.as_ref(), target);
            below = Some(link.with_context(|| input::shown(path))?);
        }
        Ok(below)
    }
}

fn apply(path: &Path, below: Option<&Link>, target: &mut impl Target) -> anyhow::Result<Link> {
    let mut reader = input::stream(path, &Beside::default())?;
    let mut digest = None;
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Manifest(manifest) => {
                expect_link(below, &manifest)?;
                if below.is_none() {
                    target.begin(&manifest)?;
                }
            }
            Event::Finish(finish) => digest = Some(finish.digest),
            event => take(&mut reader, &event, target)?,
        }
    }
    reader.expect_end()?;
    let manifest = reader.manifest().cloned().unwrap_or_default();
    let digest = digest.ok_or_else(|| unfit("it has no end"))?;
    Ok(Link { manifest, digest, path: path.to_owned() })
}

/// Gives what an event says of memory to a target; others say nothing of it.
pub(crate) fn take(
    reader: &mut Reader<Source>,
    event: &Event,
    target: &mut impl Target,
) -> anyhow::Result<()> {
    let bytes = reader.manifest().map_or(0, |manifest| manifest.page_size);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    match event {
        Event::Pages(pages) => target.pages(pages, bytes),
        Event::Disk(pages) => target.disk(pages, bytes),
        Event::Ram(ram) => target.ram(reader, ram),
        Event::Abort(finding) => Err(unfit(format!("its writer gave up: {finding}"))),
        _ => Ok(()),
    }
}

/// Makes sure that a stream goes on from the one below it, or from none.
pub(crate) fn expect_link(below: Option<&Link>, manifest: &Manifest) -> anyhow::Result<()> {
    match (below, &manifest.parent) {
        (None, None) => Ok(()),
        (None, Some(parent)) => {
            let name = parent.name.as_deref().map(|name| format!(" ({})", printable(name)));
            Err(unfit(format!(
                "pages that it lacks are in its parent, stream {}{}: give that with --parent",
                hex(&parent.digest),
                name.unwrap_or_default()
            )))
        }
        (Some(_), None) => Err(unfit("it has no parent: all of its pages are its own")),
        (Some(below), Some(parent)) => {
            let path = input::shown(&below.path);
            if parent.digest != below.digest {
                let (wanted, found) = (hex(&parent.digest), hex(&below.digest));
                let rule = Rule::K1;
                return Err(unfit(format!(
                    "its parent is stream {wanted}, and {path} is {found}; {rule}"
                )));
            }
            let link = chain::check_link(&below.manifest, &below.digest, manifest);
            link.map_err(|broken| unfit(format!("it does not go on from {path}: {broken}")))
        }
    }
}
