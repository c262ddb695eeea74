//! Our stream as QEMU's.

use std::io::{Read, Write};

use vmstream::message::{Purpose, Ram};
use vmstream::{Event, Finding, Reader};
use vmstream_qemu::SectionHead;

use crate::error::Error;
use crate::given::Piece;
use crate::op::NOTE;
use crate::precopy::Precopy;
use crate::queue::Queue;
use crate::same::Same;
use crate::target::Target;

/// Which stream of QEMU's is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The one that ours was made of: the same bytes, but for values that were changed.
    #[default]
    Same,
    /// Precopy of one channel, as `-incoming exec:` and `file:` load it, whatever it was before.
    Precopy,
}

/// Reads a stream of ours, made by [`crate::to_vmstream`], and writes it as QEMU's. Both may be pipes.
///
/// [`Form::Same`] writes as it reads, and flushes `out` behind each frame; give it a buffered one. [`Form::Precopy`] holds the state of the devices until all pages have come.
/// Returns the output.
///
/// # Errors
///
/// [`Error`]: what was written then is no whole stream. [`Error::Moved`] if only [`Form::Precopy`] can be written.
pub fn from_vmstream<R: Read, W: Write>(source: R, out: W, form: Form) -> Result<W, Error> {
    let way = Way {
        form,
        ahead: true,
        seen: &mut |_, _| Ok(()),
        renamed: &|_| None,
        is_left_out: &|_| false,
    };
    from_vmstream_by(source, out, way)
}

/// Sees an event and its epoch.
pub type Seen<'a> = dyn FnMut(u32, &Event) -> Result<(), Box<Finding>> + 'a;

/// How a stream becomes QEMU's.
pub struct Way<'a> {
    /// Which of QEMU's.
    pub form: Form,
    /// Whether bytes are handed on as soon as they are there, and their records compared with them: see [`crate::Options::ahead`].
    /// If not, records are all that is written.
    pub ahead: bool,
    /// Sees each event before it is written, and can refuse it.
    pub seen: &'a mut Seen<'a>,
    /// What a block of memory is called there, if not as here.
    pub renamed: &'a dyn Fn(&str) -> Option<Box<str>>,
    /// Whether the section of a device is left out: state of the source's host that the destination's has no place for.
    pub is_left_out: &'a dyn Fn(&SectionHead) -> bool,
}

/// The same in a way of one's own.
///
/// # Errors
///
/// As [`from_vmstream`].
pub fn from_vmstream_by<R: Read, W: Write>(source: R, out: W, way: Way<'_>) -> Result<W, Error> {
    let Way { form, ahead, seen, renamed, is_left_out } = way;
    let mut reader = Reader::new(source);
    let mut queue = Queue::new(renamed, is_left_out);
    let mut target = match form {
        Form::Same => Target::Same(Same::new(out)),
        Form::Precopy => Target::Precopy(Precopy::new(out)),
    };
    let mut noted = false;
    while let Some(event) = reader.next_event()? {
        let epoch = reader.frame().map_or(0, |frame| frame.header.epoch);
        seen(epoch, &event).map_err(|finding| Error::Refused { finding })?;
        match event {
            Event::Hello(hello) if hello.purpose != Purpose::State => {
                return Err(Error::notes("it is no machine's state"));
            }
            Event::Manifest(manifest) => target.manifest(&manifest),
            Event::Note(note) if note.name == NOTE => {
                noted = true;
                queue.learn(&note.value, reader.metadata_bytes().len())?;
                queue.run(&mut target)?;
                target.flush()?;
            }
            Event::Note(note) if Piece::is_in(&note) => {
                let piece =
                    Piece::of_note(&note).ok_or_else(|| Error::notes("a note is broken"))?;
                if ahead {
                    target.ahead(piece.bytes)?;
                }
            }
            Event::Pages(pages) => {
                target.pages(&pages, queue.take_odd())?;
                target.flush()?;
                reader.reuse(pages);
            }
            Event::Ram(ram) => ram_frame(&mut reader, &ram, &mut target)?,
            Event::Disk(_) => return Err(Error::notes("QEMU's stream has no disks")),
            Event::Devices(records) => {
                queue.add(records);
                queue.run(&mut target)?;
                target.flush()?;
            }
            Event::Abort(finding) => {
                return Err(Error::Aborted { finding: Box::new(finding) });
            }
            Event::Finish(_) => {
                if !noted {
                    return Err(Error::notes("there are no notes of QEMU's"));
                }
                queue.expect_empty()?;
                target.finish()?;
            }
            Event::Hello(_)
            | Event::Schema(..)
            | Event::Verdict(_)
            | Event::Checksums(_)
            | Event::Provisional(_)
            | Event::Switch(_)
            | Event::Note(_)
            | Event::Request(_)
            | Event::Index(_)
            | Event::Tail(_)
            | Event::Pad
            | Event::Skipped => {}
            _ => return Err(Error::notes("it has what is not known here")),
        }
    }
    target.into_inner()
}

fn ram_frame<R: Read, W: Write>(
    reader: &mut Reader<R>,
    ram: &Ram,
    target: &mut Target<W>,
) -> Result<(), Error> {
    let page_bytes = reader.manifest().map_or(4096, |manifest| manifest.page_size);
    let mut buffer = vec![0; usize::try_from(page_bytes).unwrap_or(4096)];
    let mut page = ram.offset.checked_div(page_bytes).unwrap_or(0);
    let mut filled = 0;
    loop {
        let got = reader.read_ram(buffer.get_mut(filled..).unwrap_or_default())?;
        filled += got;
        if filled == buffer.len() {
            target.page(ram.region, page, &buffer)?;
            (page, filled) = (page.saturating_add(1), 0);
        } else if got == 0 {
            return Ok(());
        }
    }
}
