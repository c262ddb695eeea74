//! Streams of either format, read as ours.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use vmstream::Piece;

use crate::earlier::{Earlier, FromStart};
use crate::error::Error;
use crate::held::Held;
use crate::to::{Content, Options, file_to_vmstream, memory_of, to_vmstream};

/// What a stream of QEMU's begins with.
const QEMU: [u8; 4] = *b"QEVM";
/// Bytes that are handed over at once, and how many such pieces wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;
/// Bytes that are read at once of a file of ours, but for what is asked for in longer pieces: that is not copied once more.
const BUFFER: usize = 64 << 10;

/// Which format a stream came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Ours; or something else, which whoever reads it will refuse.
    Vmstream,
    /// QEMU's.
    Qemu,
}

/// A stream of ours, from [`open()`]: give it to [`vmstream::Reader`].
#[derive(Debug)]
pub struct Stream {
    origin: Origin,
    source: Source,
}

impl Stream {
    /// Which format it came in.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Whole(source) => source.read(buffer),
            Source::Pieces(pieces) => pieces.read(buffer),
            Source::Held(held) => held.read(buffer),
            Source::State(state) => {
                let (file, options) = &**state;
                self.source = match Held::new(file, options) {
                    Some(held) => Source::Held(held),
                    None => threaded(file, options)?,
                };
                self.read(buffer)
            }
        }
    }
}

enum Source {
    Whole(Box<dyn Read + Send>),
    Pieces(Pieces),
    /// A file of which nothing has been read, and how it becomes ours without pages.
    State(Box<(Arc<File>, Options)>),
    Held(Held),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Pieces(_) => "Pieces",
            Self::State(_) => "State",
            Self::Held(_) => "Held",
        })
    }
}

/// Reads a stream of either format as one of ours, as it comes: nothing is waited for that is not needed.
///
/// What is wrong with a stream of QEMU's comes as an [`io::Error`] that has the [`Error`] in it: see [`cause`].
///
/// # Errors
///
/// When `source` fails.
pub fn open(mut source: impl Read + Send + 'static, options: Options) -> io::Result<Stream> {
    let mut magic = Vec::with_capacity(QEMU.len());
    (&mut source).take(4).read_to_end(&mut magic)?;
    let is_qemu = magic == QEMU;
    let mut whole = io::Cursor::new(magic).chain(source);
    if !is_qemu {
        return Ok(Stream { origin: Origin::Vmstream, source: Source::Whole(Box::new(whole)) });
    }
    let source = transcoded(move |out| to_vmstream(&mut whole, out, &options).map(drop))?;
    Ok(Stream { origin: Origin::Qemu, source })
}

/// Reads a regular file of either format as one of ours, from its beginning, wherever it stands.
///
/// It is known beforehand what memory there is, and what pages were before they changed. Of
/// [`Content::State`], pages are not read.
///
/// # Errors
///
/// [`Error`]
pub fn open_regular(file: File, mut options: Options) -> Result<Stream, Error> {
    let file = Arc::new(file);
    if !is_qemu(&file)? {
        let (file, piece) = (FromStart::of(&file), Piece::new(BUFFER));
        let whole = Buffered { file, piece, held: 0..0 };
        let source = Source::Whole(Box::new(whole));
        return Ok(Stream { origin: Origin::Vmstream, source });
    }
    options.memory = memory_of(&file)?;
    options.earlier = Earlier::Again(Arc::clone(&file));
    let source = match options.content {
        Content::All => threaded(&file, &options)?,
        Content::State => Source::State(Box::new((file, options))),
    };
    Ok(Stream { origin: Origin::Qemu, source })
}

/// A file of QEMU's as a thread of its own writes it.
fn threaded(file: &Arc<File>, options: &Options) -> io::Result<Source> {
    let (file, options) = (Arc::clone(file), options.clone());
    transcoded(move |out| file_to_vmstream(&file, out, &options).map(drop))
}

/// What a thread of its own writes.
fn transcoded(
    write: impl FnOnce(Sending) -> Result<(), Error> + Send + 'static,
) -> io::Result<Source> {
    let (sender, receiver) = sync_channel(PIECES);
    thread::Builder::new().name("qemu-stream".to_owned()).spawn(move || {
        let out = Sending { sender: sender.clone(), piece: Vec::with_capacity(PIECE) };
        if let Err(error) = write(out) {
            // Nobody waits for it if the stream has been dropped.
            drop(sender.send(Err(io::Error::other(error))));
        }
    })?;
    let pieces = Pieces { receiver, piece: io::Cursor::new(Vec::new()) };
    Ok(Source::Pieces(pieces))
}

/// Reads a file of either format as one of ours that can seek, as [`vmstream::archive::Archive`] wants it.
///
/// A file of QEMU's is written as ours, with an index, to a temporary file that has no name; one that can be mapped too.
///
/// # Errors
///
/// [`Error`]
pub fn open_file(mut file: File, options: &Options) -> Result<(Origin, File), Error> {
    if !is_qemu(&file)? {
        file.seek(SeekFrom::Start(0))?;
        return Ok((Origin::Vmstream, file));
    }
    let file = Arc::new(file);
    let memory = memory_of(&file)?;
    let earlier = Earlier::Again(Arc::clone(&file));
    let options = Options { index: true, memory, earlier, ..options.clone() };
    let out = io::BufWriter::with_capacity(PIECE, tempfile::tempfile()?);
    let (out, _) = file_to_vmstream(&file, out, &options)?;
    let mut out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.seek(SeekFrom::Start(0))?;
    Ok((Origin::Qemu, out))
}

/// Whether a regular file is QEMU's own, by its first bytes.
fn is_qemu(file: &File) -> io::Result<bool> {
    let mut magic = [0; QEMU.len()];
    match file.read_exact_at(&mut magic, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| magic == QEMU),
    }
}

/// What is wrong with a stream of QEMU's that was read through [`open()`], if that is why reading failed.
#[must_use]
pub fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Reads a file through a buffer into which it is copied at full speed, wherever the heap happens to have room.
struct Buffered {
    file: FromStart,
    piece: Piece,
    held: Range<usize>,
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() {
            if buffer.len() >= BUFFER {
                return self.file.read(buffer);
            }
            self.held = 0..self.file.read(self.piece.bytes())?;
        }
        let mut held = self.piece.bytes().get(self.held.clone()).unwrap_or_default();
        let count = held.read(buffer)?;
        self.held.start = self.held.start.saturating_add(count);
        Ok(count)
    }
}

/// Hands over what is written, in pieces.
struct Sending {
    sender: SyncSender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        if piece.is_empty() { Ok(()) } else { self.sender.send(Ok(piece)).map_err(gone) }
    }
}

/// Reads what is handed over.
struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.piece.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            match self.receiver.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece?),
                Err(_) => return Ok(0),
            }
        }
    }
}
