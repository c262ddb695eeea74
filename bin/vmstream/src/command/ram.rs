//! `ram`: a region of memory as a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use vmstream::message::{Manifest, RunKind};
use vmstream::{Event, chain};

use crate::failure::unfit;
use crate::input;
use crate::store::Files;

/// Write a region of memory into a file
///
/// The file takes its name when all has been read and checked. Pages of zeros that were never anything else are holes in it.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  vmstream ram vm.stream --region low -o low.ram")]
pub(crate) struct RamArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    /// Name of the region, or its number
    #[arg(long, short)]
    region: String,
    /// Where to write it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: &RamArgs) -> anyhow::Result<ExitCode> {
    let name = || args.file.display().to_string();
    let mut reader = input::stream(&args.file)?;
    let draft = input::Draft::new(&args.output)?;
    let mut files = Files { page: 1, files: BTreeMap::new() };
    while let Some(event) = reader.next_event().with_context(name)? {
        match event {
            Event::Manifest(manifest) => {
                let number = number_of(&manifest, &args.region).with_context(name)?;
                let at = usize::try_from(number).unwrap_or(usize::MAX);
                let bytes = manifest.memory.get(at).map_or(0, |region| region.bytes);
                let file = draft.file().try_clone()?;
                file.set_len(bytes).with_context(|| args.output.display().to_string())?;
                files.page = manifest.page_size;
                files.files.insert(number, file);
            }
            Event::Pages(pages) => {
                let mut wanted = pages.runs().iter();
                if files.files.contains_key(&pages.region())
                    && wanted.any(|run| run.kind == RunKind::Absent)
                {
                    return Err(unfit(format!("{}: pages of it are in a parent", name())));
                }
                let page = usize::try_from(files.page).unwrap_or(usize::MAX);
                chain::apply(&pages, page, &mut files).with_context(name)?;
            }
            Event::Ram(ram) => files.take(&mut reader, &ram).with_context(name)?,
            _ => {}
        }
    }
    if reader.manifest().is_some_and(|manifest| manifest.parent.is_some()) {
        return Err(unfit(format!("{}: pages that it does not mention are in a parent", name())));
    }
    draft.keep()?;
    Ok(ExitCode::SUCCESS)
}

fn number_of(manifest: &Manifest, wanted: &str) -> anyhow::Result<u32> {
    let named = manifest.memory.iter().position(|region| region.name == wanted);
    let numbered = wanted.parse().ok().filter(|number| *number < manifest.memory.len());
    let number = named.or(numbered).and_then(|number| u32::try_from(number).ok());
    let names = || manifest.memory.iter().map(|region| region.name.as_str()).collect::<Vec<_>>();
    number.ok_or_else(|| unfit(format!("no region {wanted}; there are: {}", names().join(", "))))
}
