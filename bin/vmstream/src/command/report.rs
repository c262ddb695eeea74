//! `report`: a page to look at.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::command::diff::{Sides, fields, memory};
use crate::input::Draft;
use crate::report::page;

/// Write one self-contained page: sizes, memory map, device tree, and what differs when given two
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream report vm.stream -o vm.html\n  vmstream report before.stream after.stream -o changes.html"
)]
pub(crate) struct ReportArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    /// Another stream, to show what differs
    other: Option<PathBuf>,
    #[command(flatten)]
    sides: Sides,
    /// Where to write the page
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let mut one = args.sides.one(&args.file)?;
    let mut found = None;
    if let Some(path) = &args.other {
        let other = args.sides.other(path)?;
        let (mut maps, manifest) = (std::mem::take(&mut one.survey.memory), &one.survey.manifest);
        memory(&one, &other, &mut |region, first, count| {
            let at = manifest.memory.iter().position(|each| each.name == region);
            if let Some(map) = at.and_then(|at| maps.get_mut(at)) {
                map.mark(page::DIFFERS, first, count);
            }
            Ok(())
        })?;
        one.survey.memory = maps;
        found = Some((path.display().to_string(), fields(&one.survey, &other.survey)));
    }
    let draft = Draft::new(&args.output)?;
    let page = page::fill(&args.file.display().to_string(), &one.survey, found.as_ref());
    draft.file().write_all(page.as_bytes())?;
    draft.keep()?;
    Ok(ExitCode::SUCCESS)
}
