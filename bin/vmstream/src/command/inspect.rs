//! `inspect`: what a stream is, from whom, and what is in it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value as Json, json};

use crate::cli::Shape;
use crate::input::Beside;
use crate::output::{self, hex, line, size, table};
use crate::survey::{CLASSES, States, Survey};
use crate::{input, survey};

/// Say what a stream is, from whom, and how many bytes each part takes
///
/// All of it is read and checked.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream inspect vm.stream\n  vmstream inspect - -o json <vm.stream"
)]
pub(crate) struct InspectArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let reader = input::stream(&args.file, &args.beside)?;
    let survey = Survey::of(reader, States::Leave, |_, _| Ok(()));
    let survey = survey.with_context(|| args.file.display().to_string())?;
    if args.shape.is_json() {
        output::json(&as_json(&survey))?
    } else {
        print(&survey)?
    }
    Ok(ExitCode::SUCCESS)
}

fn print(survey: &Survey) -> anyhow::Result<()> {
    for about in about(survey) {
        line(output::printable(&about))?;
    }
    let kinds = survey.kinds.iter().map(|(kind, tally)| {
        vec![Survey::kind_name(*kind), tally.frames.to_string(), size(tally.bytes)]
    });
    line("")?;
    table(&["FRAMES OF", "COUNT", "BYTES"], &[1, 2], &kinds.collect::<Vec<_>>())?;
    if !survey.manifest.memory.is_empty() {
        line("")?;
        let regions = survey.manifest.memory.iter().zip(&survey.memory);
        let rows: Vec<_> = regions.map(|(region, map)| region_row(region, map)).collect();
        table(&["REGION", "KIND", "AT", "SIZE", "PAGES SENT"], &[2, 3], &rows)?;
    }
    if !survey.parts.is_empty() {
        line("")?;
        let row = |part: &survey::Part| {
            vec![part.path.clone(), part.kind.clone(), part.bytes.to_string()]
        };
        let rows: Vec<_> = survey.parts.iter().map(row).collect();
        table(&["DEVICE", "KIND", "BYTES"], &[2], &rows)?;
    }
    Ok(())
}

fn region_row(region: &vmstream::message::Region, map: &survey::Map) -> Vec<String> {
    let at = region.gpa.map_or_else(String::new, |gpa| format!("{gpa:#x}"));
    let sent: Vec<String> = map
        .pages
        .iter()
        .zip(CLASSES)
        .filter(|(count, _)| **count > 0)
        .map(|(count, class)| format!("{count} {class}"))
        .collect();
    vec![region.name.clone(), region.kind.clone(), at, size(region.bytes), sent.join(", ")]
}

/// What the stream is, in sentences.
pub(crate) fn about(survey: &Survey) -> Vec<String> {
    let mut about = Vec::new();
    if let Some(hello) = &survey.hello {
        let producer = &hello.producer;
        about.push(format!(
            "vmstream 1, {}, by {} {}",
            hello.purpose.word(),
            producer.name,
            producer.version
        ));
    }
    about.push(format!(
        "{} attributes of the contract, {} schemas, {} devices, {} epochs",
        survey.manifest.contract.len(),
        survey.schemas.len(),
        survey.parts.len(),
        survey.epochs
    ));
    about.extend(survey.incremental());
    if let Some(finish) = &survey.finish {
        about.push(format!("{} in {} frames", size(finish.bytes), finish.frames));
        about.push(format!("digest {}", hex(&finish.digest)));
    }
    about.extend(survey.abort.as_ref().map(|finding| format!("given up: {finding}")));
    if survey.skipped > 0 {
        about.push(format!("{} frames of unknown kinds were passed over", survey.skipped));
    }
    about
}

fn as_json(survey: &Survey) -> Json {
    let kinds = survey.kinds.iter().map(|(kind, tally)| {
        let counts = json!({"frames": tally.frames, "bytes": tally.bytes});
        (Survey::kind_name(*kind), counts)
    });
    let memory = survey.manifest.memory.iter().zip(&survey.memory).map(|(region, map)| {
        let pages: serde_json::Map<String, Json> =
            CLASSES.iter().zip(map.pages).map(|(class, count)| ((*class).to_owned(), count.into())).collect();
        json!({
            "name": region.name, "kind": region.kind, "bytes": region.bytes, "gpa": region.gpa, "pages": pages,
        })
    });
    let devices = survey.parts.iter();
    let devices =
        devices.map(|part| json!({"path": part.path, "kind": part.kind, "bytes": part.bytes}));
    let schemas = survey.schemas.iter();
    let schemas = schemas.map(
        |(id, schema)| json!({"id": id, "name": schema.name, "digest": hex(&schema.digest())}),
    );
    json!({
        "format": "vmstream",
        "version": 1,
        "producer": survey.hello.as_ref().map(|hello| json!({
            "name": hello.producer.name, "version": hello.producer.version,
        })),
        "purpose": survey.hello.as_ref().map(|hello| hello.purpose.word()),
        "page_size": survey.manifest.page_size,
        "parent": survey.manifest.parent.as_ref().map(|parent| hex(&parent.digest)),
        "parent_name": survey.manifest.parent.as_ref().and_then(|parent| parent.name.as_deref()),
        "attributes": survey.manifest.contract.len(),
        "epochs": survey.epochs,
        "frames": kinds.collect::<serde_json::Map<_, _>>(),
        "memory": memory.collect::<Vec<_>>(),
        "schemas": schemas.collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
        "bytes": survey.finish.map(|finish| finish.bytes),
        "digest": survey.finish.map(|finish| hex(&finish.digest)),
        "abort": survey.abort.as_ref().map(ToString::to_string),
        "skipped": survey.skipped,
    })
}
