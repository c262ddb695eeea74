//! `verify`: whether a stream is whole.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use vmstream::ReadError;
use vmstream::json::value_to_json;
use vmstream::message::Message as _;

use crate::cli::Shape;
use crate::failure::unfit;
use crate::input::{self, Beside};
use crate::output::{self, hex, line, size};
use crate::survey::{States, Survey};

/// Check every byte of a stream: checksums, order, types, counts, digest, index
///
/// What is wrong is said with the frame, the byte and the rule of the format that it breaks.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  vmstream verify vm.stream && echo whole")]
pub(crate) struct VerifyArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let outcome = verify(args);
    if args.shape.is_json()
        && let Err(error) = &outcome
        && let Some(broken) = error.chain().find_map(|cause| cause.downcast_ref::<ReadError>())
    {
        output::json(
            &json!({"whole": false, "finding": value_to_json(&broken.finding().to_value())}),
        )?;
    }
    let survey = outcome.with_context(|| args.file.display().to_string())?;
    if let Some(abort) = &survey.abort {
        return Err(unfit(format!("{}: its writer gave up: {abort}", args.file.display())));
    }
    let finish = survey.finish.unwrap_or_default();
    if args.shape.is_json() {
        output::json(&json!({
            "whole": true, "frames": finish.frames, "bytes": finish.bytes, "pages": finish.pages,
            "devices": finish.devices, "digest": hex(&finish.digest),
            "parent": survey.manifest.parent.as_ref().map(|parent| hex(&parent.digest)),
        }))?;
    } else {
        line(format_args!(
            "whole: {} frames, {}, {} pages, {} devices, digest {}",
            finish.frames,
            size(finish.bytes),
            finish.pages,
            finish.devices,
            hex(&finish.digest)
        ))?;
        if let Some(told) = survey.incremental() {
            line(output::printable(&told))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs) -> anyhow::Result<Survey> {
    let survey =
        Survey::of(input::stream(&args.file, &args.beside)?, States::Leave, |_, _| Ok(()))?;
    let has_index = survey.finish.is_some_and(|finish| finish.follows > 0);
    if has_index && let Some(mut archive) = input::archive(&args.file, &args.beside)? {
        archive.verify_index()?;
    }
    Ok(survey)
}
