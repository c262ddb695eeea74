//! Pages of memory and of disks.

mod build;
mod code;

use super::Fields;
use crate::broken::Broken;
use crate::limits;
use crate::rule::Rule;
use crate::value::{Map, Value, decode_prefix, encode, push_head};

pub use build::PagesBuilder;

/// What the pages of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// Their bytes are in the frame's data, in order.
    Data,
    /// Zeros.
    Zero,
    /// Each equals one other page, as that is after all runs of other kinds in this frame.
    SameAs(u64),
    /// They are what they are in the parent.
    Absent,
}

/// Pages that lie together and are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// The first page, counted from the beginning of the region.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What they are.
    pub kind: RunKind,
}

/// How the data of a frame are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// One LZ4 block.
    Lz4,
    /// One Zstandard frame.
    Zstd,
}

impl Encoding {
    /// The word in the stream.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Raw, Self::Lz4, Self::Zstd].into_iter().find(|each| each.word() == word)
    }
}

/// The payload of a frame of pages, of memory or of a disk.
#[derive(Clone, Debug)]
pub struct Pages {
    region: u32,
    encoding: Encoding,
    length: usize,
    runs: Vec<PageRun>,
    /// What comes before the stored data, if they are not in one piece with it.
    head: Vec<u8>,
    /// The payload as it was read, or what is stored alone: memory is not copied to be put behind its head.
    body: Vec<u8>,
    /// Where in `body` the stored data begin.
    start: usize,
}

impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        (self.head(), self.stored()) == (other.head(), other.stored())
    }
}

impl Eq for Pages {}

impl Pages {
    /// Number of the region or disk.
    #[must_use]
    pub const fn region(&self) -> u32 {
        self.region
    }

    /// How the data are stored.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The runs, ascending.
    #[must_use]
    pub fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    /// Pages that the runs say something about.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().fold(0, |sum, run| sum.saturating_add(run.count))
    }

    /// The data as they are stored.
    #[must_use]
    pub fn stored(&self) -> &[u8] {
        self.body.get(self.start..).unwrap_or_default()
    }

    /// Puts a payload together from what is stored.
    ///
    /// # Errors
    ///
    /// [`Broken`] by the rules `P-…` that need no manifest.
    pub fn new(
        region: u32,
        encoding: Encoding,
        length: usize,
        runs: &[PageRun],
        stored: Vec<u8>,
    ) -> Result<Self, Broken> {
        Self::from_meta(meta(region, encoding, length, runs), stored)
    }

    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// [`Broken`] by a rule `V-…`, `M-1` or `P-…`.
    pub fn from_payload(payload: Vec<u8>) -> Result<Self, Broken> {
        let body = payload.strip_prefix(&[0x82]);
        let body = body.ok_or_else(|| Broken::new(Rule::M1).found("no pair of map and bytes"))?;
        let (meta, rest) = decode_prefix(body).map_err(|broken| shift(broken, 1))?;
        let stored =
            byte_string(rest).map_err(|broken| shift(broken, payload.len() - rest.len()))?;
        let start = payload.len() - stored;
        Self::from_parts(meta, Vec::new(), payload, start)
    }

    /// Puts a payload together from a map and what is stored.
    pub(crate) fn from_meta(meta: Value, stored: Vec<u8>) -> Result<Self, Broken> {
        let mut head = vec![0x82];
        head.extend(encode(&meta));
        push_head(&mut head, 2, u64::try_from(stored.len()).unwrap_or(u64::MAX));
        Self::from_parts(meta, head, stored, 0)
    }

    fn from_parts(meta: Value, head: Vec<u8>, body: Vec<u8>, start: usize) -> Result<Self, Broken> {
        let mut fields = Fields::of(meta)?;
        let word = fields.text("encoding")?;
        let length = fields.uint("length")?;
        let pages = Self {
            region: fields.small("region")?,
            encoding: Encoding::of(&word)
                .ok_or_else(|| Broken::new(Rule::P6).path("encoding").found(word))?,
            length: usize::try_from(length).unwrap_or(usize::MAX),
            runs: fields.list("runs", |value| run_from(&value))?,
            head,
            body,
            start,
        };
        fields.done()?;
        pages.check()?;
        Ok(pages)
    }

    /// The map before the data.
    pub(crate) fn meta(&self) -> Value {
        let body = self.head().get(1..).unwrap_or_default();
        // It was decoded when the payload was read.
        decode_prefix(body).map_or(Value::Null, |(meta, _)| meta)
    }

    /// What holds the stored data.
    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// What of the payload comes before the stored data.
    pub(crate) fn head(&self) -> &[u8] {
        if self.head.is_empty() {
            self.body.get(..self.start).unwrap_or_default()
        } else {
            &self.head
        }
    }

    /// The payload's bytes.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        [self.head(), self.stored()].concat()
    }

    fn check(&self) -> Result<(), Broken> {
        if self.length > limits::PAGE_DATA || self.runs.len() > limits::RUNS {
            return Err(Broken::new(Rule::P1).found(self.length));
        }
        let mut next = 0;
        for (index, run) in self.runs.iter().enumerate() {
            let end = run.first.checked_add(run.count);
            let end = end.filter(|_| run.count > 0 && run.first >= next);
            next = end.ok_or_else(|| Broken::new(Rule::P2).path("runs").below_index(index))?;
        }
        Ok(())
    }

    /// Checks against a region of `pages` pages of `page_size` bytes, with or without a parent.
    ///
    /// # Errors
    ///
    /// [`Broken`] by a rule `P-…`.
    pub fn check_within(&self, pages: u64, page_size: u64, has_parent: bool) -> Result<(), Broken> {
        let mut data = 0_u64;
        for (index, run) in self.runs.iter().enumerate() {
            let broken = |rule| Broken::new(rule).path("runs").below_index(index);
            if run.first.saturating_add(run.count) > pages {
                return Err(broken(Rule::P2).found(format_args!("a region of {pages} pages")));
            }
            match run.kind {
                RunKind::Data => data = data.saturating_add(run.count),
                RunKind::SameAs(page) if page >= pages || self.is_same_as(page) => {
                    return Err(broken(Rule::P4).found(page));
                }
                RunKind::Absent if !has_parent => return Err(broken(Rule::P5)),
                RunKind::Zero | RunKind::SameAs(_) | RunKind::Absent => {}
            }
        }
        let length = u64::try_from(self.length).unwrap_or(u64::MAX);
        if data.checked_mul(page_size) != Some(length) {
            return Err(Broken::new(Rule::P3).path("length").found(length));
        }
        Ok(())
    }

    /// Whether a page is in a run of kind same-as of this frame.
    fn is_same_as(&self, page: u64) -> bool {
        let after = self.runs.partition_point(|run| run.first <= page);
        let run = after.checked_sub(1).and_then(|index| self.runs.get(index));
        run.is_some_and(|run| {
            matches!(run.kind, RunKind::SameAs(_)) && page - run.first < run.count
        })
    }
}

fn meta(region: u32, encoding: Encoding, length: usize, runs: &[PageRun]) -> Value {
    let runs: Vec<_> = runs.iter().map(run_value).collect();
    let map = Map::new().with("region", region).with("encoding", encoding.word());
    Value::Map(map.with("length", u64::try_from(length).unwrap_or(u64::MAX)).with("runs", runs))
}

fn shift(broken: Broken, by: usize) -> Broken {
    let at = broken.at.saturating_add(u64::try_from(by).unwrap_or(u64::MAX));
    broken.at(at)
}

/// The length of the byte string that `bytes` is and that ends with them.
fn byte_string(bytes: &[u8]) -> Result<usize, Broken> {
    // The shortest head for what follows is known before it is looked at: only it can stand here.
    for head in [1, 2, 3, 5, 9] {
        let Some(length) = bytes.len().checked_sub(head) else { break };
        let mut shortest = Vec::with_capacity(9);
        push_head(&mut shortest, 2, u64::try_from(length).unwrap_or(u64::MAX));
        if bytes.starts_with(&shortest) && shortest.len() == head {
            return Ok(length);
        }
    }
    Err(Broken::new(Rule::V9).found("no byte string up to the end"))
}

fn run_value(run: &PageRun) -> Value {
    let (kind, argument) = match run.kind {
        RunKind::Data => (0_u8, None),
        RunKind::Zero => (1, None),
        RunKind::SameAs(page) => (2, Some(Value::from(page))),
        RunKind::Absent => (3, None),
    };
    let mut items = vec![Value::from(run.first), Value::from(run.count), Value::from(kind)];
    items.extend(argument);
    Value::List(items)
}

fn run_from(value: &Value) -> Result<PageRun, Broken> {
    let items = value.as_list().unwrap_or_default();
    let numbers = |index: usize| items.get(index).and_then(Value::as_u64);
    let kind = match (numbers(2), numbers(3), items.len()) {
        (Some(0), None, 3) => RunKind::Data,
        (Some(1), None, 3) => RunKind::Zero,
        (Some(2), Some(page), 4) => RunKind::SameAs(page),
        (Some(3), None, 3) => RunKind::Absent,
        _ => return Err(Broken::new(Rule::M1).found("no run")),
    };
    match (numbers(0), numbers(1)) {
        (Some(first), Some(count)) => Ok(PageRun { first, count, kind }),
        _ => Err(Broken::new(Rule::M1).found("no run")),
    }
}

impl Broken {
    fn below_index(mut self, index: usize) -> Self {
        self.path = format!("{}.{index}", self.path);
        self
    }
}
