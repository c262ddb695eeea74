//! Streams from files and from standard input.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use vmstream::archive::Archive;
use vmstream::writer::Compress;
use vmstream::{Event, Reader};
use vmstream_qemu::{Description, Event as QemuEvent, Reader as QemuReader};
use vmstream_transcode::{Content, Options, Stream};

/// Any source of bytes.
pub(crate) type Source = Box<dyn Read + Send>;

/// Bytes that are read at once, but for what is asked for in longer pieces: that is not copied once more.
const BUFFER: usize = 64 << 10;

/// Where bytes come from, as the command line names it.
pub(crate) fn bytes(path: &Path) -> anyhow::Result<Source> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, io::stdin())));
    }
    let file = File::open(path).with_context(|| shown(path))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}

/// What a stream of QEMU's may need besides itself.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Beside {
    /// A further channel of the multifd set whose main channel FILE is; once for each
    #[arg(id = "channels", long = "channel", value_name = "CHANNEL")]
    channels: Vec<PathBuf>,
    /// QEMU's stream of the same machine and the same build of QEMU, for one that does not describe its devices (postcopy)
    #[arg(long, value_name = "STREAM")]
    described_by: Option<PathBuf>,
}

impl Beside {
    /// The same for another stream that has these channels.
    pub(crate) fn with_channels(&self, channels: &[PathBuf]) -> Self {
        Self { channels: channels.to_vec(), described_by: self.described_by.clone() }
    }

    /// Adds all of it, opened, to how a stream is read.
    fn add(&self, mut options: Options) -> anyhow::Result<Options> {
        let open = |path: &PathBuf| File::open(path).map(Arc::new).with_context(|| shown(path));
        options.channels = self.channels.iter().map(open).collect::<anyhow::Result<_>>()?;
        if let Some(path) = &self.described_by {
            options.reader = options.reader.with_description(description(path)?);
        }
        Ok(options)
    }
}

/// QEMU's description in a file of its.
fn description(path: &Path) -> anyhow::Result<Description> {
    let file = File::open(path).with_context(|| shown(path))?;
    let mut found = None;
    let mut sink = |range: Range<u64>, event: &QemuEvent<'_>| {
        if let QemuEvent::Description { json } = event {
            found = Some((json.to_vec(), range.start));
        }
        Ok(())
    };
    let read = QemuReader::new().read_devices(&file, &mut sink);
    read.with_context(|| format!("{}: it is no stream of QEMU's", shown(path)))?;
    let (json, at) = found.with_context(|| format!("{} has no description", shown(path)))?;
    Description::parse(&json, at).with_context(|| shown(path))
}

/// A stream of either format, ours or QEMU's own, to be read from front to back as ours.
pub(crate) fn either(path: &Path, beside: &Beside, options: Options) -> anyhow::Result<Stream> {
    let options = beside.add(options)?;
    match regular(path)? {
        Some(file) => vmstream_transcode::open_regular(file, options).with_context(|| shown(path)),
        None => vmstream_transcode::open(bytes(path)?, options).with_context(|| shown(path)),
    }
}

/// A stream of either format, to be read from front to back.
pub(crate) fn stream(path: &Path, beside: &Beside) -> anyhow::Result<Reader<Source>> {
    Ok(Reader::new(Box::new(either(path, beside, Options::default())?)))
}

/// A stream of either format, for what it says of the machine and its devices: pages of QEMU's do not become ours.
pub(crate) fn state(path: &Path, beside: &Beside) -> anyhow::Result<Reader<Source>> {
    Ok(Reader::new(Box::new(either(path, beside, read_here())?)))
}

/// A stream of either format in a file that can be read anywhere, QEMU's without its pages; nothing for what can only be
/// read from front to back.
pub(crate) fn archive(path: &Path, beside: &Beside) -> anyhow::Result<Option<Archive<File>>> {
    let Some(file) = regular(path)? else { return Ok(None) };
    let options = beside.add(read_here())?;
    let (_, file) = vmstream_transcode::open_file(file, &options).with_context(|| shown(path))?;
    Archive::open(file).with_context(|| shown(path)).map(Some)
}

/// The file, if it is one that can be read anywhere.
fn regular(path: &Path) -> anyhow::Result<Option<File>> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let file = File::open(path).with_context(|| shown(path))?;
    let is_regular = file.metadata().with_context(|| shown(path))?.is_file();
    Ok(is_regular.then_some(file))
}

/// The digest that names a stream in a file; nothing for what can only be read once.
pub(crate) fn digest(path: &Path) -> anyhow::Result<Option<[u8; 32]>> {
    let Some(mut file) = regular(path)? else { return Ok(None) };
    if !is_qemu(&mut file, path)? {
        let archive = Archive::open(file).with_context(|| shown(path))?;
        return Ok(archive.finish().map(|finish| finish.digest));
    }
    // It has the name that it gets as a stream of ours.
    let mut reader = stream(path, &Beside::default())?;
    while let Some(event) = reader.next_event().with_context(|| shown(path))? {
        if let Event::Finish(finish) = event {
            return Ok(Some(finish.digest));
        }
    }
    Ok(None)
}

/// Whether a file is QEMU's own, by its first bytes.
fn is_qemu(file: &mut File, path: &Path) -> anyhow::Result<bool> {
    let mut begin = Vec::new();
    file.by_ref().take(4).read_to_end(&mut begin).with_context(|| shown(path))?;
    file.rewind().with_context(|| shown(path))?;
    Ok(begin == b"QEVM")
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A file that is complete or not there: it takes its name when all has been written.
pub(crate) struct Draft {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Draft {
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let file = file.with_context(|| shown(path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    pub(crate) fn keep(self) -> anyhow::Result<()> {
        let Self { file, path } = self;
        file.persist(&path).with_context(|| shown(&path))?;
        Ok(())
    }
}

/// State to be read where it is made: what is packed would be unpacked at once.
fn read_here() -> Options {
    Options { content: Content::State, compress: Compress::Nothing, ..Options::default() }
}
