//! Streams from files and from standard input.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use vmstream::Reader;
use vmstream::archive::Archive;

use crate::failure::unfit;

/// Any source of bytes.
pub(crate) type Source = Box<dyn Read>;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// What QEMU's own streams begin with.
const QEMU: &[u8] = b"QEVM";

/// Where bytes come from, as the command line names it.
pub(crate) fn bytes(path: &Path) -> anyhow::Result<Source> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, io::stdin())));
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}

/// A stream, to be read from front to back.
pub(crate) fn stream(path: &Path) -> anyhow::Result<Reader<Source>> {
    let mut source = bytes(path)?;
    let mut begin = Vec::new();
    source.by_ref().take(4).read_to_end(&mut begin).with_context(|| path.display().to_string())?;
    if begin == QEMU {
        return Err(unfit(format!("{}: a stream of QEMU's own", path.display())));
    }
    Ok(Reader::new(Box::new(io::Cursor::new(begin).chain(source))))
}

/// A stream in a file that can be read anywhere; nothing for what can only be read from front to back.
pub(crate) fn archive(path: &Path) -> anyhow::Result<Option<Archive<File>>> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    if !file.metadata().with_context(|| path.display().to_string())?.is_file() {
        return Ok(None);
    }
    let archive = Archive::open(file).with_context(|| path.display().to_string())?;
    Ok(Some(archive))
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
        let file = file.with_context(|| path.display().to_string())?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    pub(crate) fn keep(self) -> anyhow::Result<()> {
        let Self { file, path } = self;
        file.persist(&path).with_context(|| path.display().to_string())?;
        Ok(())
    }
}
