//! `diff`: where two streams differ.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use vmstream::json::value_to_json;
use vmstream::message::{self, Manifest, Ram, RunKind};
use vmstream::{Event, Reader, chain};

use crate::cli::Shape;
use crate::digests::Digests;
use crate::flat::{self, Difference};
use crate::input::{Beside, Source};
use crate::parents::{Parents, Target, expect_link, take};
use crate::survey::{States, Survey};
use crate::{failure, input, output};

/// Show where two streams differ: attributes and fields with both values, memory by ranges of pages
///
/// Two streams are the same if they say the same of the machine, however they say it. The exit code is 1 if they differ, and
/// also if one is incremental and the pages that it lacks cannot be compared.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream diff before.stream after.stream\n  vmstream diff a.stream b.stream -o json | jq '.fields[].path'\n  vmstream diff tuesday.inc wednesday.inc --parent tuesday.inc --parent monday\n  vmstream diff a.mig b.stream --channel a.c0.mig --channel a.c1.mig"
)]
pub(crate) struct DiffArgs {
    /// One stream; `-` for standard input
    a: PathBuf,
    /// The other stream; `-` for standard input
    b: PathBuf,
    #[command(flatten)]
    sides: Sides,
    #[command(flatten)]
    shape: Shape,
}

/// What the two streams are made of besides their files.
#[derive(Args, Debug)]
pub(crate) struct Sides {
    #[command(flatten)]
    beside: Beside,
    /// The same of the other stream's
    #[arg(long = "other-channel", value_name = "CHANNEL")]
    others: Vec<PathBuf>,
    #[command(flatten)]
    parents: Parents,
}

impl Sides {
    pub(crate) fn one(&self, path: &Path) -> anyhow::Result<Side> {
        side(path, &self.beside, &self.parents)
    }

    pub(crate) fn other(&self, path: &Path) -> anyhow::Result<Side> {
        side(path, &self.beside.with_channels(&self.others), &self.parents)
    }
}

/// Most pages of one side: 256 GiB of the usual ones, whose digests take 512 MiB of a file.
const PAGES: u64 = 1 << 26;

/// One side.
pub(crate) struct Side {
    pub(crate) survey: Survey,
    digests: Digests,
}

pub(crate) fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    if args.a == args.b && args.a == Path::new("-") {
        return Err(failure::unfit("standard input holds one stream, not two"));
    }
    let (a, b) = (args.sides.one(&args.a)?, args.sides.other(&args.b)?);
    let fields = fields(&a.survey, &b.survey);
    // Runs are as many as pages at the worst: they are found again when they are printed, and never held.
    let mut differs = false;
    let unknown = memory(&a, &b, &mut |_, _, _| {
        differs = true;
        Ok(())
    })?;
    if args.shape.is_json() {
        let fields = fields.iter().map(|each| json!({"path": each.path, "a": each.a, "b": each.b}));
        let pages = Pages { a: &a, b: &b };
        output::json(&Differing { fields: fields.collect(), pages, unknown_pages: unknown })?;
    } else {
        for Difference { path, a, b } in &fields {
            let (a, b) = (flat::short(a.as_ref()), flat::short(b.as_ref()));
            output::line(format_args!("{}: {a} -> {b}", output::printable(path)))?;
        }
        if unknown > 0 {
            let why = "what they are is in a parent: give it with --parent";
            output::line(format_args!("memory: {unknown} pages not compared; {why}"))?;
        }
        memory(&a, &b, &mut |region, first, count| {
            let last = first.saturating_add(count.saturating_sub(1));
            let region = output::printable(region);
            output::line(format_args!("memory {region}: pages {first}-{last}, {count}"))
        })?;
    }
    let same = fields.is_empty() && !differs && unknown == 0;
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(failure::DIFFERS) })
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Differing<'s> {
    fields: Vec<Json>,
    pages: Pages<'s>,
    unknown_pages: u64,
}

/// Runs of pages that differ.
struct Pages<'s> {
    a: &'s Side,
    b: &'s Side,
}

#[derive(Serialize)]
struct Run<'r> {
    region: &'r str,
    first: u64,
    count: u64,
}

impl Serialize for Pages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut runs = serializer.serialize_seq(None)?;
        let mut failed = None;
        let found = memory(self.a, self.b, &mut |region, first, count| {
            runs.serialize_element(&Run { region, first, count }).map_err(|error| {
                failed = Some(error);
                io::ErrorKind::Other.into()
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        found.map_err(S::Error::custom)?;
        runs.end()
    }
}

fn side(path: &Path, beside: &Beside, parents: &Parents) -> anyhow::Result<Side> {
    let mut digests = Digests::new(0, false);
    let survey = Survey::of(input::stream(path, beside)?, States::Keep, |reader, event| {
        if let Event::Manifest(manifest) = event {
            digests = Digests::new(manifest.page_size, manifest.parent.is_some());
            bounded(manifest)?;
            let chain = parents.below(manifest)?;
            if let Some(below) = chain.apply(&mut digests)? {
                expect_link(Some(&below), manifest)?;
            }
        }
        take(reader, event, &mut digests)
    });
    let survey = survey.with_context(|| path.display().to_string())?;
    Ok(Side { survey, digests })
}

fn bounded(manifest: &Manifest) -> anyhow::Result<()> {
    let pages = manifest.memory.iter().map(|region| region.bytes / manifest.page_size);
    if pages.fold(0, u64::saturating_add) > PAGES {
        return Err(failure::unfit(format!("more than {PAGES} pages to compare")));
    }
    Ok(())
}

impl Target for Digests {
    fn begin(&mut self, manifest: &Manifest) -> anyhow::Result<()> {
        bounded(manifest)?;
        *self = Self::new(manifest.page_size, false);
        Ok(())
    }

    fn pages(&mut self, pages: &message::Pages, bytes: usize) -> anyhow::Result<()> {
        chain::apply(pages, bytes, self)?;
        for run in pages.runs().iter().filter(|run| run.kind == RunKind::Absent) {
            self.absent(pages.region(), run.first, run.count)?;
        }
        Ok(())
    }

    fn ram(&mut self, reader: &mut Reader<Source>, ram: &Ram) -> anyhow::Result<()> {
        self.take(reader, ram)
    }
}

/// Differences of contract, memory map and state.
pub(crate) fn fields(a: &Survey, b: &Survey) -> Vec<Difference> {
    let mut out = Vec::new();
    let contract = |survey: &Survey| {
        let each = survey.manifest.contract.iter();
        each.map(|each| (each.name(), value_to_json(&each.value))).collect::<Vec<_>>()
    };
    let memory = |survey: &Survey| {
        let each = survey.manifest.memory.iter();
        each.map(|each| (format!("memory/{}", each.name), Json::from(each.bytes)))
            .collect::<Vec<_>>()
    };
    let state = |survey: &Survey| {
        let each = survey.parts.iter();
        each.map(|each| (each.path.clone(), each.state.clone())).collect::<Vec<_>>()
    };
    for side in [contract, memory, state] {
        pairs(&side(a), &side(b), &mut out);
    }
    out
}

fn pairs(a: &[(String, Json)], b: &[(String, Json)], out: &mut Vec<Difference>) {
    let b: serde_json::Map<String, Json> = b.iter().cloned().collect();
    let a: serde_json::Map<String, Json> = a.iter().cloned().collect();
    for (path, value) in &a {
        flat::differences(path, Some(value), b.get(path), out);
    }
    for (path, value) in b.iter().filter(|(path, _)| !a.contains_key(*path)) {
        flat::differences(path, None, Some(value), out);
    }
}

/// Tells `each` the differences of memory, in regions that both have: the region's name, the first page, and how many. Returns how
/// many pages are not known on one side.
pub(crate) fn memory(
    a: &Side,
    b: &Side,
    each: &mut dyn FnMut(&str, u64, u64) -> io::Result<()>,
) -> io::Result<u64> {
    let parent = |side: &Side| side.survey.manifest.parent.as_ref().map(|parent| parent.digest);
    let same_parent = parent(a).is_some() && parent(a) == parent(b);
    let (mine, theirs) = (&a.survey.manifest.memory, &b.survey.manifest.memory);
    let mut unknown = 0_u64;
    for (number, region) in (0_u32..).zip(mine) {
        let same_place = theirs.get(usize::try_from(number).unwrap_or(usize::MAX));
        if same_place.is_none_or(|other| other.name != region.name) {
            continue;
        }
        let pages = region.bytes / a.survey.manifest.page_size.max(1);
        let mut each = |first, count| each(&region.name, first, count);
        let found = a.digests.differences(&b.digests, number, pages, same_parent, &mut each)?;
        unknown = unknown.saturating_add(found);
    }
    Ok(unknown)
}
