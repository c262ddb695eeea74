//! `ram`: a region of memory as a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use vmstream::message::{Manifest, Pages, Ram};
use vmstream::{Event, Reader, chain};

use crate::failure::unfit;
use crate::input::{self, Beside, Source};
use crate::parents::{Link, Parents, Target, expect_link, take};
use crate::store::Files;

/// Write a region of memory into a file
///
/// The file takes its name when all has been read and checked. Pages of zeros that were never anything else are holes in it.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream ram vm.stream --region low -o low.ram\n  vmstream ram tuesday.inc --parent monday --region low -o low.ram"
)]
pub(crate) struct RamArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    parents: Parents,
    /// Name of the region, or its number
    #[arg(long, short)]
    region: String,
    /// Where to write it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: &RamArgs) -> anyhow::Result<ExitCode> {
    let draft = input::Draft::new(&args.output)?;
    let mut region = Wanted {
        name: &args.region,
        file: draft.file(),
        files: Files { page: 1, files: BTreeMap::new() },
    };
    let below = args.parents.apply(&mut region)?;
    read(args, &mut region, below.as_ref()).with_context(|| input::shown(&args.file))?;
    draft.keep()?;
    Ok(ExitCode::SUCCESS)
}

fn read(args: &RamArgs, region: &mut Wanted<'_>, below: Option<&Link>) -> anyhow::Result<()> {
    let mut reader = input::stream(&args.file, &args.beside)?;
    while let Some(event) = reader.next_event()? {
        if let Event::Manifest(manifest) = &event {
            expect_link(below, manifest)?;
            if below.is_none() {
                region.begin(manifest)?;
            }
        }
        take(&mut reader, &event, region)?;
    }
    Ok(())
}

/// The region that is wanted, as a file.
struct Wanted<'a> {
    name: &'a str,
    file: &'a File,
    files: Files,
}

impl Target for Wanted<'_> {
    fn begin(&mut self, manifest: &Manifest) -> anyhow::Result<()> {
        let number = number_of(manifest, self.name)?;
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let bytes = manifest.memory.get(at).map_or(0, |region| region.bytes);
        let file = self.file.try_clone()?;
        file.set_len(bytes)?;
        self.files.page = manifest.page_size;
        self.files.files.insert(number, file);
        Ok(())
    }

    fn pages(&mut self, pages: &Pages, bytes: usize) -> anyhow::Result<()> {
        Ok(chain::apply(pages, bytes, &mut self.files)?)
    }

    fn ram(&mut self, reader: &mut Reader<Source>, ram: &Ram) -> anyhow::Result<()> {
        self.files.take(reader, ram)
    }
}

fn number_of(manifest: &Manifest, wanted: &str) -> anyhow::Result<u32> {
    let named = manifest.memory.iter().position(|region| region.name == wanted);
    let numbered = wanted.parse().ok().filter(|number| *number < manifest.memory.len());
    let number = named.or(numbered).and_then(|number| u32::try_from(number).ok());
    let names = || manifest.memory.iter().map(|region| region.name.as_str()).collect::<Vec<_>>();
    number.ok_or_else(|| unfit(format!("no region {wanted}; there are: {}", names().join(", "))))
}
