//! `schema`: what a stream's records may hold.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value as Json;
use vmstream::Event;
use vmstream::json::value_to_json;

use crate::cli::Shape;
use crate::failure::unfit;
use crate::input::{self, Beside};
use crate::output::{self, hex};

/// List the schemas of a stream, or print one
///
/// A schema is a document of JSON Schema 2020-12, for the state as `get` prints it.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream schema vm.stream\n  vmstream schema vm.stream toy.uart >uart.schema.json"
)]
pub(crate) struct SchemaArgs {
    /// The stream; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    beside: Beside,
    /// The kind of device whose schema to print
    kind: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let mut reader = input::state(&args.file, &args.beside)?;
    let mut found = Vec::new();
    let name = || args.file.display().to_string();
    while let Some(event) = reader.next_event().with_context(name)? {
        if let Event::Schema(id, schema) = event {
            found.push((id, schema));
        }
    }
    if let Some(kind) = &args.kind {
        let schema = found.iter().find(|(_, schema)| schema.name == *kind);
        let (_, schema) =
            schema.ok_or_else(|| unfit(format!("{}: no schema of the kind {kind}", name())))?;
        output::json(&value_to_json(&schema.document()))?;
    } else if args.shape.is_json() {
        let all = found.iter().map(|(_, schema)| value_to_json(&schema.document()));
        output::json(&Json::Array(all.collect()))?;
    } else {
        let row = |(id, schema): &(u32, std::sync::Arc<vmstream::Schema>)| {
            let fields = schema.root.fields().len().to_string();
            let version = schema.version.to_string();
            vec![id.to_string(), schema.name.clone(), version, fields, hex(&schema.digest())]
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        output::table(&["ID", "KIND", "VERSION", "FIELDS", "SHA-256"], &[0, 2, 3], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
