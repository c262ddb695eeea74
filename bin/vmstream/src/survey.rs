//! One stream, read once from front to back, and what there is to say of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use vmstream::frame::Kind;
use vmstream::json::state_to_json;
use vmstream::message::{
    DeviceRecord, Finish, Hello, Manifest, Message as _, Pages, Parent, Ram, RunKind,
};
use vmstream::reader::ReadError;
use vmstream::value::encode;
use vmstream::{Event, Finding, Reader, Schema};

use crate::input::Source;

/// Frames of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// A device's final record.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) path: String,
    pub(crate) kind: String,
    /// Of the record as it is encoded, before compression.
    pub(crate) bytes: u64,
    /// The state, fields at their defaults put in.
    pub(crate) state: Json,
}

/// Classes of pages, in the order of how much they are worth a look.
pub(crate) const CLASSES: [&str; 4] = ["data", "zero", "same", "absent"];

/// Most cells of a map of memory, for one region and for all.
const CELLS: u64 = 4096;
const ALL_CELLS: u64 = 1 << 18;

/// What was sent of a region, page by page and in cells of equal size.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// Pages that were sent, by class.
    pub(crate) pages: [u64; 4],
    pub(crate) cells: Vec<u8>,
    pub(crate) pages_per_cell: u64,
}

/// Whether the devices' states are wanted: as JSON they take much more than in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum States {
    Keep,
    Leave,
}

/// What there is to say.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) hello: Option<Hello>,
    pub(crate) manifest: Manifest,
    pub(crate) kinds: BTreeMap<u8, Tally>,
    pub(crate) parts: Vec<Part>,
    pub(crate) memory: Vec<Map>,
    pub(crate) epochs: u32,
    pub(crate) schemas: Vec<(u32, Arc<Schema>)>,
    pub(crate) finish: Option<Finish>,
    pub(crate) abort: Option<Finding>,
    pub(crate) skipped: u64,
}

impl Survey {
    /// Reads all of a stream; `look` sees each event before it goes into the survey.
    pub(crate) fn of(
        mut reader: Reader<Source>,
        states: States,
        mut look: impl FnMut(&mut Reader<Source>, &Event) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut survey = Self::default();
        while let Some(event) = reader.next_event()? {
            look(&mut reader, &event)?;
            survey.add(&reader, event, states)?;
        }
        reader.expect_end()?;
        survey.skipped = reader.skipped();
        Ok(survey)
    }

    fn add(
        &mut self,
        reader: &Reader<Source>,
        event: Event,
        states: States,
    ) -> Result<(), ReadError> {
        if let Some(frame) = reader.frame() {
            let tally = self.kinds.entry(frame.header.kind).or_default();
            tally.frames = tally.frames.saturating_add(1);
            tally.bytes = tally.bytes.saturating_add(frame.header.length).saturating_add(51);
            self.epochs = frame.header.epoch.saturating_add(1);
        }
        match event {
            Event::Hello(hello) => self.hello = Some(hello),
            Event::Schema(id, schema) => self.schemas.push((id, schema)),
            Event::Manifest(manifest) => {
                self.memory = empty_maps(&manifest);
                self.manifest = manifest;
            }
            Event::Pages(pages) => self.add_pages(&pages),
            Event::Ram(ram) => self.add_ram(&ram),
            Event::Devices(records) => {
                self.parts.extend(records.iter().map(|record| part(reader, record, states)));
            }
            Event::Finish(finish) => self.finish = Some(finish),
            Event::Abort(finding) => self.abort = Some(finding),
            _ => {}
        }
        Ok(())
    }

    fn add_pages(&mut self, pages: &Pages) {
        let at = usize::try_from(pages.region()).unwrap_or(usize::MAX);
        let Some(map) = self.memory.get_mut(at) else { return };
        for run in pages.runs() {
            let class = match run.kind {
                RunKind::Data => 0,
                RunKind::Zero => 1,
                RunKind::SameAs(_) => 2,
                RunKind::Absent => 3,
            };
            map.add(class, run.first, run.count);
        }
    }

    fn add_ram(&mut self, ram: &Ram) {
        let page = self.manifest.page_size.max(1);
        let at = usize::try_from(ram.region).unwrap_or(usize::MAX);
        if let Some(map) = self.memory.get_mut(at) {
            map.add(0, ram.offset / page, ram.length / page);
        }
    }

    /// That it is incremental, and where its other pages are, if it is.
    pub(crate) fn incremental(&self) -> Option<String> {
        let Parent { digest, name } = self.manifest.parent.as_ref()?;
        let name = name.as_deref().map_or_else(String::new, |name| format!(" ({name})"));
        let digest = crate::output::hex(digest);
        Some(format!("incremental: pages that it lacks are in its parent, stream {digest}{name}"))
    }

    /// Name of a kind of frame.
    pub(crate) fn kind_name(kind: u8) -> String {
        Kind::of(kind).map_or_else(|| format!("kind {kind}"), |kind| kind.name().to_owned())
    }
}

fn part(reader: &Reader<Source>, record: &DeviceRecord, states: States) -> Part {
    let state = || {
        let schema = reader.schema(record.schema);
        let state = schema.map(|schema| schema.complete(&record.state));
        state_to_json(state.as_ref().unwrap_or(&record.state))
    };
    Part {
        path: record.path.clone(),
        kind: record.kind.clone(),
        bytes: u64::try_from(encode(&record.to_value()).len()).unwrap_or(u64::MAX),
        state: if states == States::Keep { state() } else { Json::Null },
    }
}

fn empty_maps(manifest: &Manifest) -> Vec<Map> {
    let regions = u64::try_from(manifest.memory.len()).unwrap_or(u64::MAX).max(1);
    let most = CELLS.min(ALL_CELLS / regions).max(1);
    let background = if manifest.parent.is_some() { 3 } else { 1 };
    let map = |bytes: u64| {
        let pages = bytes / manifest.page_size.max(1);
        let pages_per_cell = pages.div_ceil(most).max(1);
        let cells = usize::try_from(pages.div_ceil(pages_per_cell)).unwrap_or(0);
        Map { pages: [0; 4], cells: vec![background; cells], pages_per_cell }
    };
    manifest.memory.iter().map(|region| map(region.bytes)).collect()
}

impl Map {
    fn add(&mut self, class: u8, first: u64, count: u64) {
        if let Some(pages) = self.pages.get_mut(usize::from(class)) {
            *pages = pages.saturating_add(count);
        }
        // Data are of most interest, then what repeats them; of the same, what came last.
        let rank = |class: u8| [3, 0, 2, 1].get(usize::from(class)).copied().unwrap_or(0);
        for known in self.cells_of(first, count) {
            if rank(class) >= rank(*known) {
                *known = class;
            }
        }
    }

    /// Gives the cells of pages a class whatever they have.
    pub(crate) fn mark(&mut self, class: u8, first: u64, count: u64) {
        self.cells_of(first, count).for_each(|cell| *cell = class);
    }

    fn cells_of(&mut self, first: u64, count: u64) -> impl Iterator<Item = &mut u8> {
        let cell = |page: u64| usize::try_from(page / self.pages_per_cell).unwrap_or(usize::MAX);
        let last = first.saturating_add(count.saturating_sub(1));
        let (from, to) = (cell(first), cell(last));
        let cells = if count == 0 { None } else { self.cells.get_mut(from..=to) };
        cells.into_iter().flatten()
    }
}
