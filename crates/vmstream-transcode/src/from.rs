//! Our stream as QEMU's.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};

use vmstream::message::{DeviceRecord, Manifest, Pages, Purpose, Ram, RunKind};
use vmstream::{Event, Finding, Map, Reader, Value as Ours};
use vmstream_qemu::{BlockHead, SectionHead, SectionKind};

use crate::error::Error;
use crate::layout::Layout;
use crate::op::{NOTE, Odd, Op};
use crate::precopy::Precopy;
use crate::same::Same;

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
    let way = Way { form, seen: &mut |_, _| Ok(()), renamed: &|_| None, is_left_out: &|_| false };
    from_vmstream_by(source, out, way)
}

/// Sees an event and its epoch.
pub type Seen<'a> = dyn FnMut(u32, &Event) -> Result<(), Box<Finding>> + 'a;

/// How a stream becomes QEMU's.
pub struct Way<'a> {
    /// Which of QEMU's.
    pub form: Form,
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
    let Way { form, seen, renamed, is_left_out } = way;
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
            Event::Pages(pages) => {
                target.pages(&pages, queue.take_odd())?;
                target.flush()?;
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

/// Bytes of notes that a stream may have held at once.
const HELD: usize = 64 << 20;

/// Steps whose turn has not come, and what they need.
struct Queue<'a> {
    /// Bytes of notes that are held: all those with layouts, and what waits for a record.
    held: usize,
    /// Bytes of notes with layouts.
    kept: usize,
    ops: VecDeque<Op>,
    layouts: Vec<Layout>,
    records: BTreeMap<String, Map>,
    odd: Odd,
    renamed: &'a dyn Fn(&str) -> Option<Box<str>>,
    is_left_out: &'a dyn Fn(&SectionHead) -> bool,
    /// Whether the section that has begun is left out.
    leaves_out: bool,
}

impl<'a> Queue<'a> {
    fn new(
        renamed: &'a dyn Fn(&str) -> Option<Box<str>>,
        is_left_out: &'a dyn Fn(&SectionHead) -> bool,
    ) -> Self {
        Self {
            held: 0,
            kept: 0,
            ops: VecDeque::new(),
            layouts: Vec::new(),
            records: BTreeMap::new(),
            odd: Odd::default(),
            renamed,
            is_left_out,
            leaves_out: false,
        }
    }

    /// Takes a note that is so long.
    fn learn(&mut self, value: &Ours, bytes: usize) -> Result<(), Error> {
        let broken = || Error::notes("a note is broken");
        self.held = self.held.saturating_add(bytes);
        if self.held > HELD {
            return Err(Error::notes("more waits for a device's record than a machine has"));
        }
        let mut has_layout = false;
        for op in value.as_list().ok_or_else(broken)? {
            let op = Op::from_value(op).ok_or_else(broken)?;
            has_layout |= matches!(op, Op::Layout(_));
            self.ops.push_back(op);
        }
        if has_layout {
            self.kept = self.kept.saturating_add(bytes);
        }
        Ok(())
    }

    fn add(&mut self, records: Vec<DeviceRecord>) {
        self.records.extend(records.into_iter().map(|record| (record.path, record.state)));
    }

    fn take_odd(&mut self) -> Odd {
        std::mem::take(&mut self.odd)
    }

    /// Does all steps up to one that waits for a record.
    fn run<W: Write>(&mut self, target: &mut Target<W>) -> Result<(), Error> {
        while let Some(op) = self.ops.pop_front() {
            if let Op::Layout(layout) = op {
                self.layouts.push(layout);
            } else if let Op::Odd(odd) = op {
                self.odd = odd;
            } else if let Op::Device(number, path) = op {
                let Some(state) = self.records.remove(&path) else {
                    self.ops.push_front(Op::Device(number, path));
                    return Ok(());
                };
                if !self.leaves_out {
                    self.device(number, path, &state, target)?;
                }
            } else if let Op::Block(head) = op {
                let name = (self.renamed)(&head.name).unwrap_or_else(|| head.name.clone());
                target.step(Op::Block(BlockHead { name, ..head }))?;
            } else if !self.is_of_left_out(&op) {
                target.step(op)?;
            }
        }
        self.held = self.kept;
        Ok(())
    }

    /// Whether a step belongs to a section that is left out: its head, its body, its footer.
    fn is_of_left_out(&mut self, op: &Op) -> bool {
        if let Op::Section(head) = op {
            self.leaves_out = head.kind == SectionKind::Full && (self.is_left_out)(head);
            return self.leaves_out;
        }
        let was = self.leaves_out;
        self.leaves_out &= matches!(op, Op::Body(_));
        was && matches!(op, Op::Body(_) | Op::Footer(_))
    }

    fn device<W: Write>(
        &self,
        number: u32,
        path: String,
        state: &Map,
        target: &mut Target<W>,
    ) -> Result<(), Error> {
        let layout = usize::try_from(number).ok().and_then(|number| self.layouts.get(number));
        let layout = layout.ok_or_else(|| Error::notes("a layout is missing"))?;
        let structure = crate::back::structure(layout, Some(state));
        let misfit = |misfit| Error::Misfit { device: path, misfit };
        target.body(&structure.map_err(misfit)?)
    }

    fn expect_empty(&self) -> Result<(), Error> {
        if let Some(Op::Device(_, path)) = self.ops.front() {
            return Err(Error::notes(format!("the record of {path} is missing")));
        }
        match self.records.keys().next() {
            None => Ok(()),
            Some(path) => Err(Error::notes(format!("the notes do not speak of {path}"))),
        }
    }
}

/// What is written.
enum Target<W: Write> {
    Same(Same<W>),
    Precopy(Precopy<W>),
}

impl<W: Write> Target<W> {
    fn manifest(&mut self, manifest: &Manifest) {
        let head = |region: &vmstream::message::Region| BlockHead {
            name: region.name.as_str().into(),
            bytes: region.bytes,
            page_bytes: None,
            gpa: region.gpa,
            mapped: None,
        };
        let blocks = manifest.memory.iter().map(head).collect();
        match self {
            Self::Same(same) => same.manifest(manifest.page_size),
            Self::Precopy(precopy) => precopy.manifest(blocks, manifest.page_size),
        }
    }

    fn step(&mut self, op: Op) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.step(op),
            Self::Precopy(precopy) => precopy.step(op),
        }
    }

    fn body(&mut self, structure: &vmstream_qemu::Structure) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.body(structure),
            Self::Precopy(precopy) => precopy.body(structure),
        }
    }

    fn page(&mut self, block: u32, page: u64, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Same(_) => Err(Error::moved("memory is in frames that can be mapped")),
            Self::Precopy(precopy) => precopy.page(block, page, Some(data)),
        }
    }

    fn pages(&mut self, pages: &Pages, odd: Odd) -> Result<(), Error> {
        let data = pages.data().map_err(|broken| Error::notes(broken.to_string()))?;
        let page_bytes = match self {
            Self::Same(same) => same.page_bytes(),
            Self::Precopy(precopy) => precopy.page_bytes(),
        };
        let mut data = data.chunks(usize::try_from(page_bytes).unwrap_or(4096).max(1));
        let mut odd = OddPages { odd, number: 0 };
        for run in pages.runs() {
            for page in (run.first..).take(usize::try_from(run.count).unwrap_or(usize::MAX)) {
                let bytes = match run.kind {
                    RunKind::Data => Some(data.next().unwrap_or_default()),
                    RunKind::Zero => None,
                    RunKind::SameAs(_) | RunKind::Absent => {
                        return Err(Error::moved("pages are elsewhere: apply the chain first"));
                    }
                };
                let (named, full) = odd.next();
                match self {
                    Self::Same(same) => same.page(pages.region(), page, bytes, named, full)?,
                    Self::Precopy(precopy) => precopy.page(pages.region(), page, bytes)?,
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.flush(),
            // It waits for the end anyway.
            Self::Precopy(_) => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        match self {
            Self::Same(same) => same.finish(),
            Self::Precopy(precopy) => precopy.finish(),
        }
    }

    fn into_inner(self) -> Result<W, Error> {
        match self {
            Self::Same(same) => Ok(same.into_inner()),
            Self::Precopy(precopy) => precopy.into_inner(),
        }
    }
}

/// Goes through the pages of a frame and says which are odd.
struct OddPages {
    odd: Odd,
    number: u64,
}

impl OddPages {
    /// Whether the next page is odd in how it is named, and in being written in full.
    fn next(&mut self) -> (bool, bool) {
        let number = self.number;
        self.number = number.saturating_add(1);
        let Odd { named, full } = &self.odd;
        (named.binary_search(&number).is_ok(), full.binary_search(&number).is_ok())
    }
}
