//! `check`: would this destination take that machine?

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use vmstream::contract::{Comparison, Side, compare_between};
use vmstream::message::{Manifest, Producer};
use vmstream::resolve::{Forecast, forecast};
use vmstream::{Event, Finding, Schema};

use crate::cli::Shape;
use crate::failure::{self, unfit};
use crate::input::Beside;
use crate::{input, output, verdict};

/// Say whether a destination would take a machine, and every reason why not, without loading anything
///
/// FILE is a stream or the source's contract; OTHER is the destination's contract, or any stream of it. Nothing behind
/// the manifest is read. The exit code is 1 if the destination would refuse.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream check vm.stream --against destination.contract\n  vmstream manifest --qmp b.sock | vmstream check a.contract --against -"
)]
pub(crate) struct CheckArgs {
    /// The source's stream or contract; `-` for standard input
    file: PathBuf,
    /// The destination's contract or stream; `-` for standard input
    #[arg(long, value_name = "OTHER")]
    against: PathBuf,
    /// Show also what follows from the refusals, and harmless differences
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    shape: Shape,
}

/// What stands before a stream's pages.
struct Head {
    producer: Producer,
    manifest: Manifest,
    schemas: BTreeMap<String, Arc<Schema>>,
}

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.file == args.against && args.file == Path::new("-") {
        return Err(unfit("standard input holds one stream, not two"));
    }
    let source = head(&args.file)?;
    let destination = head(&args.against)?;
    let side = |head: &'_ Head| (head.producer.clone(), head.manifest.contract.clone());
    let ((source_of, source_has), (destination_of, destination_has)) =
        (side(&source), side(&destination));
    let mut comparison = compare_between(
        Side { producer: &source_of, contract: &source_has },
        Side { producer: &destination_of, contract: &destination_has },
    );
    regions(&source, &destination, &mut comparison);
    records(&source, &destination, &mut comparison);
    if args.shape.is_json() {
        output::json(&verdict::as_json(&comparison))?;
    } else {
        verdict::print(&comparison, args.verbose, &mut io::stdout().lock())?;
    }
    Ok(if comparison.accepts() { ExitCode::SUCCESS } else { ExitCode::from(failure::DIFFERS) })
}

fn head(path: &Path) -> anyhow::Result<Head> {
    let name = || path.display().to_string();
    let mut reader = input::stream(path, &Beside::default())?;
    loop {
        let event = reader.next_event().with_context(name)?;
        let event = event.ok_or_else(|| unfit(format!("{}: there is no manifest", name())))?;
        let Event::Manifest(manifest) = event else { continue };
        let producer = reader.hello().map(|hello| hello.producer.clone()).unwrap_or_default();
        let schemas = reader.schemas().values();
        let schemas = schemas.map(|schema| (schema.name.clone(), Arc::clone(schema))).collect();
        return Ok(Head { producer, manifest, schemas });
    }
}

/// Memory, where both say what they have.
fn regions(source: &Head, destination: &Head, comparison: &mut Comparison) {
    let (mine, theirs) = (&source.manifest.memory, &destination.manifest.memory);
    if mine.is_empty() || theirs.is_empty() {
        return;
    }
    for region in mine {
        let other = theirs.iter().find(|other| other.name == region.name);
        if other.map(|other| other.bytes) != Some(region.bytes) {
            let code = if other.is_some() { "value-differs" } else { "missing-at-destination" };
            let finding = Finding::new(code, format!("memory/{}", region.name), "contract");
            let bytes = other.map(|other| other.bytes.into());
            comparison.refusals.push(finding.values(Some(region.bytes.into()), bytes));
        }
    }
}

/// Records, where both say what theirs may hold.
fn records(source: &Head, destination: &Head, comparison: &mut Comparison) {
    for (name, schema) in &source.schemas {
        let Some(reader) = destination.schemas.get(name) else { continue };
        match forecast(schema, reader) {
            Forecast::Yes => {}
            Forecast::OnlyWhile(conditions) => comparison.remarks.extend(conditions),
            Forecast::No(findings) => comparison.refusals.extend(findings),
        }
    }
}
