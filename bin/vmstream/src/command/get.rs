//! `get`: one field.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value as Json;
use vmstream::Event;
use vmstream::json::{state_to_json, value_to_json};
use vmstream::message::Manifest;

use crate::cli::Shape;
use crate::failure::unfit;
use crate::input::Beside;
use crate::{input, output, place};

/// Print a device's state, a field of it, or an attribute of the contract
///
/// PATH is a device's, with fields joined by dots and positions in brackets: `bus/uart0.lines[2].vector`; or an
/// attribute's: `machine#vcpus`. From a file with an index only what is wanted is read.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream get vm.stream bus/uart0.irq.vector\n  vmstream get vm.stream machine#vcpus"
)]
pub(crate) struct GetArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    /// What to print
    path: String,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(args: &GetArgs) -> anyhow::Result<ExitCode> {
    let found = find(args).with_context(|| args.file.display().to_string())?;
    let value = found.ok_or_else(|| {
        let (file, path) = (args.file.display(), &args.path);
        unfit(format!("{file}: there is no {path}; `vmstream tree` shows all fields"))
    })?;
    match &value {
        Json::String(text) if !args.shape.is_json() => output::line(output::printable(text))?,
        value => output::json(value)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn find(args: &GetArgs) -> anyhow::Result<Option<Json>> {
    let wanted = args.path.as_str();
    let Some(mut archive) = input::archive(&args.file, &args.beside)? else {
        return find_in_order(args);
    };
    if let Some(attribute) = archive.manifest().and_then(|manifest| attribute(manifest, wanted)) {
        return Ok(Some(attribute));
    }
    let devices = archive.index().devices.iter().map(|(path, _)| path.as_str());
    let Some(device) = place::device(devices, wanted).map(str::to_owned) else { return Ok(None) };
    let Some(record) = archive.device(&device)? else { return Ok(None) };
    let state = archive.schema(record.schema).map(|schema| schema.complete(&record.state));
    let state = state_to_json(state.as_ref().unwrap_or(&record.state));
    let below = place::below(&device, wanted).unwrap_or_default();
    Ok(place::find(&state, below).cloned())
}

/// As a pipe has it: all of it, once.
fn find_in_order(args: &GetArgs) -> anyhow::Result<Option<Json>> {
    let wanted = args.path.as_str();
    let mut reader = input::state(&args.file, &args.beside)?;
    let mut found: Option<(usize, Option<Json>)> = None;
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Manifest(manifest) => {
                if let Some(value) = attribute(&manifest, wanted) {
                    found = Some((usize::MAX, Some(value)));
                }
            }
            Event::Devices(records) => {
                let paths = records.iter().map(|record| record.path.as_str());
                let Some(device) = place::device(paths, wanted) else { continue };
                let best = found.as_ref().map_or(0, |(length, _)| *length);
                let record = records.iter().find(|record| record.path == device);
                let Some(record) = record.filter(|_| device.len() >= best) else { continue };
                let state = reader.schema(record.schema).map(|s| s.complete(&record.state));
                let state = state_to_json(state.as_ref().unwrap_or(&record.state));
                let below = place::below(device, wanted).unwrap_or_default();
                found = Some((device.len(), place::find(&state, below).cloned()));
            }
            _ => {}
        }
    }
    Ok(found.and_then(|(_, value)| value))
}

fn attribute(manifest: &Manifest, wanted: &str) -> Option<Json> {
    let (path, name) = wanted.split_once('#')?;
    let is_wanted =
        |each: &&vmstream::contract::Attribute| each.path == path && each.attribute == name;
    manifest.contract.iter().find(is_wanted).map(|each| value_to_json(&each.value))
}
