//! Steps of notes, done when what they need has come.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

use vmstream::message::DeviceRecord;
use vmstream::{Map, Value as Ours};
use vmstream_qemu::{BlockHead, SectionHead, SectionKind};

use crate::error::Error;
use crate::layout::Layout;
use crate::op::{Odd, Op};
use crate::target::Target;

/// Bytes of notes that a stream may have held at once.
const HELD: usize = 64 << 20;

/// Steps whose turn has not come, and what they need.
pub(crate) struct Queue<'a> {
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
    pub(crate) fn new(
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
    pub(crate) fn learn(&mut self, value: &Ours, bytes: usize) -> Result<(), Error> {
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

    pub(crate) fn add(&mut self, records: Vec<DeviceRecord>) {
        self.records.extend(records.into_iter().map(|record| (record.path, record.state)));
    }

    pub(crate) fn take_odd(&mut self) -> Odd {
        std::mem::take(&mut self.odd)
    }

    /// Does all steps up to one that waits for a record.
    pub(crate) fn run<W: Write>(&mut self, target: &mut Target<W>) -> Result<(), Error> {
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
                    // Whoever loads it has something to do while the next is made.
                    target.flush()?;
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

    pub(crate) fn expect_empty(&self) -> Result<(), Error> {
        if let Some(Op::Device(_, path)) = self.ops.front() {
            return Err(Error::notes(format!("the record of {path} is missing")));
        }
        match self.records.keys().next() {
            None => Ok(()),
            Some(path) => Err(Error::notes(format!("the notes do not speak of {path}"))),
        }
    }
}
