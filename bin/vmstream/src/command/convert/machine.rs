//! Memory and disks put together in files, and written as pages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use vmstream::message::{Encoding, Manifest, Pages, PagesBuilder, Ram};
use vmstream::{Reader, WriteError, Writer, chain};

use crate::input::Source;
use crate::parents::Target;
use crate::store::Files;

/// Bytes that one checksum of memory covers, and the alignment of memory in a file that is mapped.
const CHUNK: u32 = 2 << 20;
/// Bytes that are compared at once.
const PIECE: u64 = 256 << 10;

/// A machine's memory and disks, as files that take no space for zeros.
pub(super) struct Machine {
    folder: PathBuf,
    memory: Files,
    disks: Files,
}

impl Machine {
    /// Nothing yet; its files will be in a folder, without names.
    pub(super) fn new(folder: &Path) -> Self {
        let none = || Files { page: 1, files: BTreeMap::new() };
        Self { folder: folder.to_owned(), memory: none(), disks: none() }
    }

    /// Writes each region as one piece that can be mapped.
    pub(super) fn write_mappable<W: Write>(&self, writer: &mut Writer<W>) -> anyhow::Result<()> {
        for (region, file) in &self.memory.files {
            let mut file = file.try_clone()?;
            let length = file.seek(SeekFrom::End(0))?;
            file.rewind()?;
            let ram = Ram { region: *region, offset: 0, chunk: CHUNK, length };
            if length > 0 {
                writer.ram(&ram, CHUNK, &mut std::io::Read::take(file, length))?;
            }
        }
        let out = &mut |pages: &Pages| writer.disk(pages);
        each_difference(&self.disks, None, Encoding::Raw, out)
    }

    /// Writes pages that are not what they are in `parent`; without one, those that are not zero.
    pub(super) fn write_pages<W: Write>(
        &self,
        parent: Option<&Self>,
        encoding: Encoding,
        writer: &mut Writer<W>,
    ) -> anyhow::Result<()> {
        let (memory, disks) = (parent.map(|each| &each.memory), parent.map(|each| &each.disks));
        each_difference(&self.memory, memory, encoding, &mut |pages| writer.pages(pages))?;
        each_difference(&self.disks, disks, encoding, &mut |pages| writer.disk(pages))
    }

    fn file(&self, bytes: u64) -> anyhow::Result<File> {
        let file = tempfile::tempfile_in(&self.folder)?;
        file.set_len(bytes)?;
        Ok(file)
    }
}

impl Target for Machine {
    fn begin(&mut self, manifest: &Manifest) -> anyhow::Result<()> {
        (self.memory.page, self.disks.page) = (manifest.page_size, manifest.page_size);
        for (number, region) in (0..).zip(&manifest.memory) {
            let file = self.file(region.bytes)?;
            self.memory.files.insert(number, file);
        }
        for (number, disk) in (0..).zip(&manifest.disks) {
            let file = self.file(disk.bytes)?;
            self.disks.files.insert(number, file);
        }
        Ok(())
    }

    fn pages(&mut self, pages: &Pages, bytes: usize) -> anyhow::Result<()> {
        Ok(chain::apply(pages, bytes, &mut self.memory)?)
    }

    fn disk(&mut self, pages: &Pages, bytes: usize) -> anyhow::Result<()> {
        Ok(chain::apply(pages, bytes, &mut self.disks)?)
    }

    fn ram(&mut self, reader: &mut Reader<Source>, ram: &Ram) -> anyhow::Result<()> {
        self.memory.take(reader, ram)
    }
}

/// Writes frames with those pages of all files that differ from another's, or from zero.
fn each_difference(
    mine: &Files,
    theirs: Option<&Files>,
    encoding: Encoding,
    out: &mut dyn FnMut(&Pages) -> Result<(), WriteError>,
) -> anyhow::Result<()> {
    let page = usize::try_from(mine.page)?;
    for (number, file) in &mine.files {
        let other = theirs.and_then(|theirs| theirs.files.get(number));
        let mut builder = PagesBuilder::new(*number, page, encoding);
        let length = file.metadata()?.len();
        let mut at = 0;
        while let Some(begin) = next_data(file, other, at, length)? {
            let begin = begin / mine.page * mine.page;
            let bytes = PIECE.max(mine.page).min(length.saturating_sub(begin));
            let (one, two) = (piece(Some(file), begin, bytes)?, piece(other, begin, bytes)?);
            let pages = one.chunks(page).zip(two.chunks(page));
            for (nth, (one, two)) in (begin / mine.page..).zip(pages) {
                if one != two {
                    builder.page(nth, one);
                }
                if builder.is_full() {
                    out(&builder.build()?)?;
                }
            }
            at = begin.saturating_add(bytes);
        }
        if !builder.is_empty() {
            out(&builder.build()?)?;
        }
    }
    Ok(())
}

/// Where the next bytes are that are not a hole in both files.
fn next_data(one: &File, two: Option<&File>, at: u64, end: u64) -> anyhow::Result<Option<u64>> {
    let mut next = None;
    for file in [Some(one), two].into_iter().flatten() {
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Err(Errno::NXIO) => {}
            data => next = Some(next.unwrap_or(u64::MAX).min(data?)),
        }
    }
    Ok(next.filter(|next| *next < end))
}

/// Bytes of a file; zeros where there is none.
fn piece(file: Option<&File>, at: u64, bytes: u64) -> anyhow::Result<Vec<u8>> {
    let mut piece = vec![0; usize::try_from(bytes)?];
    if let Some(file) = file {
        file.read_exact_at(&mut piece, at)?;
    }
    Ok(piece)
}
