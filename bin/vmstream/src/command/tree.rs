//! `tree`: devices and their fields.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value as Json};

use crate::cli::Shape;
use crate::failure::unfit;
use crate::input::Beside;
use crate::output::{self, printable};
use crate::survey::{States, Survey};
use crate::{flat, input, place};

/// Show the devices of a stream with all their fields
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  vmstream tree vm.stream\n  vmstream tree vm.stream bus/uart0")]
pub(crate) struct TreeArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    /// Only devices whose paths begin so
    prefix: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(args: &TreeArgs) -> anyhow::Result<ExitCode> {
    let reader = input::state(&args.file, &args.beside)?;
    let survey = Survey::of(reader, States::Keep, |_, _| Ok(()));
    let mut survey = survey.with_context(|| args.file.display().to_string())?;
    let prefix = args.prefix.as_deref().unwrap_or_default();
    let begins = |path: &str| path.starts_with(prefix) || place::below(path, prefix).is_some();
    survey.parts.retain(|part| begins(&part.path));
    if survey.parts.is_empty() && !prefix.is_empty() {
        return Err(unfit(format!("no device's path begins with {prefix}")));
    }
    if args.shape.is_json() {
        let all: Map<String, Json> =
            survey.parts.into_iter().map(|part| (part.path, part.state)).collect();
        output::json(&Json::Object(all))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for part in &survey.parts {
        writeln!(out, "{} ({})", printable(&part.path), printable(&part.kind))?;
        branches(&mut out, &part.state, 1)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The values below one: those that hold others open a level, and so deep as a stream's values may nest.
fn branches(out: &mut impl Write, value: &Json, level: usize) -> io::Result<()> {
    let named: Vec<(String, &Json)> = match value {
        Json::Object(object) => object.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Json::Array(items) => {
            items.iter().enumerate().map(|(at, value)| (format!("[{at}]"), value)).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Vec::new(),
    };
    let indent = "  ".repeat(level);
    for (name, value) in named {
        let name = printable(&name);
        let is_open = match value {
            Json::Object(object) => !object.is_empty(),
            Json::Array(items) => items.iter().any(|item| item.is_object() || item.is_array()),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
        };
        if is_open {
            writeln!(out, "{indent}{name}")?;
            branches(out, value, level.saturating_add(1))?;
        } else {
            writeln!(out, "{indent}{name} = {}", flat::short(Some(value)))?;
        }
    }
    Ok(())
}
