//! QEMU's stream as ours.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use vmstream::Writer;
use vmstream::contract::Attribute;
use vmstream::message::{Encoding, Hello, Manifest, Producer, Purpose, Verdict};
use vmstream::writer::Compress;
use vmstream_qemu::{BlockHead, Event, RamRecord, ReadError, Reader, Sink};

use crate::earlier::{Earlier, FromStart};
use crate::encoder::Encoder;
use crate::error::Error;

/// The code of the finding that ends a stream whose source failed: see [`Options::aborts`].
pub const SOURCE_FAILED: &str = "source-failed";

/// How much of a stream of QEMU's becomes ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// All of it, so that it can be QEMU's again.
    #[default]
    All,
    /// What the machine is and the state of its devices: memory is passed over, of a file unread where that can be, and nothing
    /// leads back.
    State,
}

/// How a stream of QEMU's becomes one of ours.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who is said to have made the stream; QEMU's own does not say which version wrote it.
    pub producer: Producer,
    /// How much of it is wanted.
    pub content: Content,
    /// How pages are stored.
    pub encoding: Encoding,
    /// Whether metadata are packed: 40 KB instead of 260 for a usual machine, and some milliseconds.
    pub compress: Compress,
    /// Whether an index follows, for readers that can seek.
    pub index: bool,
    /// How QEMU's stream is read: whether its connection stays open, what else describes its devices.
    pub reader: Reader,
    /// The blocks of memory, if they are known before: those of a file that can be mapped must be. See [`memory`].
    pub memory: Vec<BlockHead>,
    /// Where a page is found as it was, for pages that come as differences (xbzrle).
    pub earlier: Earlier,
    /// The further channels of a multifd set whose main channel this is, in any order. Each is read once, from where it is.
    pub channels: Vec<Arc<File>>,
    /// What is known of the machine besides: its contract.
    pub contract: Vec<Attribute>,
    /// What a destination said of it, to be kept in the stream.
    pub verdict: Option<Verdict>,
    /// Filled with the manifest as soon as it has been written.
    pub manifest: Arc<OnceLock<Manifest>>,
    /// Whether what devices send is handed on as it comes, too, before it is understood, for somebody who has it loaded meanwhile;
    /// and where it is said that the last of it has been handed on. It is when all of it has been taken apart, and put together to
    /// the same bytes.
    pub ahead: Option<Arc<AtomicBool>>,
    /// Whether a stream that cannot be finished ends with a frame that says why, for whoever reads it at the same time.
    pub aborts: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (name, version) = ("vmstream-transcode".to_owned(), env!("CARGO_PKG_VERSION"));
        Self {
            producer: Producer { name, version: version.to_owned() },
            content: Content::All,
            encoding: Encoding::Raw,
            compress: Compress::default(),
            index: false,
            reader: Reader::new(),
            memory: Vec::new(),
            earlier: Earlier::Nowhere,
            channels: Vec::new(),
            contract: Vec::new(),
            verdict: None,
            manifest: Arc::default(),
            ahead: None,
            aborts: false,
        }
    }
}

/// Reads a stream of QEMU's and writes it as ours, page by page: both may be pipes.
///
/// At most one frame of pages, the device state and some pages of each channel are held. Returns the output and the digest that names the
/// stream.
///
/// # Errors
///
/// [`Error`]: at the first rule that QEMU's stream breaks, and where pages are not to be had: see [`Options::earlier`] and
/// [`Options::channels`].
pub fn to_vmstream<W: Write>(
    source: &mut dyn Read,
    out: W,
    options: &Options,
) -> Result<(W, [u8; 32]), Error> {
    transcoded(|sink| options.reader.read(source, sink), out, options)
}

/// Reads a regular file of QEMU's from its beginning, wherever it stands, as [`to_vmstream`] does a stream; of
/// [`Content::State`], pages are not even read.
///
/// # Errors
///
/// As [`to_vmstream`].
pub fn file_to_vmstream<W: Write>(
    file: &Arc<File>,
    out: W,
    options: &Options,
) -> Result<(W, [u8; 32]), Error> {
    let reader = &options.reader;
    match options.content {
        Content::All => {
            transcoded(|sink| reader.read(&mut FromStart::of(file), sink), out, options)
        }
        Content::State => transcoded(|sink| reader.read_devices(file, sink), out, options),
    }
}

fn transcoded<W: Write>(
    read: impl FnOnce(&mut dyn Sink) -> Result<(), ReadError>,
    out: W,
    options: &Options,
) -> Result<(W, [u8; 32]), Error> {
    let mut hello = Hello::new("", "", Purpose::State);
    hello.producer = options.producer.clone();
    hello.needs = vec!["late-schemas".to_owned()];
    let mut writer = Writer::new(out, &hello)?;
    writer.compress(options.compress);
    let mut encoder = Encoder::new(writer, options);
    let read = read(&mut encoder);
    let failed = encoder.take_failure().or_else(|| read.err().map(Error::from));
    if let Some(failed) = failed {
        if options.aborts {
            encoder.abort(&failed);
        }
        return Err(failed);
    }
    let writer = encoder.finish()?;
    Ok(if options.index { writer.finish_with_index()? } else { writer.finish()? })
}

/// The blocks of memory of a stream of QEMU's, which is read up to the end of the first section of memory.
///
/// # Errors
///
/// At the first rule that the stream breaks up to there.
pub fn memory(source: &mut dyn Read) -> Result<Vec<BlockHead>, Error> {
    blocks(|sink| Reader::new().read(source, sink))
}

/// The blocks of memory of a regular file of QEMU's, of which no page is read.
///
/// # Errors
///
/// As [`memory`].
pub(crate) fn memory_of(file: &File) -> Result<Vec<BlockHead>, Error> {
    blocks(|sink| Reader::new().read_for_state(file, sink))
}

fn blocks(
    read: impl FnOnce(&mut dyn Sink) -> Result<(), ReadError>,
) -> Result<Vec<BlockHead>, Error> {
    let (mut blocks, mut over) = (Vec::new(), false);
    let read = read(&mut |_: Range<u64>, event: &Event<'_>| {
        if let Event::Ram(RamRecord::Block(head)) = event {
            blocks.push((*head).clone());
        }
        over |= matches!(event, Event::Ram(RamRecord::End));
        if over { Err(io::Error::other("that was all of it")) } else { Ok(()) }
    });
    match read {
        Err(error) if !over => Err(error.into()),
        _ => Ok(blocks),
    }
}
