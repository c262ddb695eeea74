//! `bandsox image …`

mod export;
mod import;
mod inspect;
mod ls;
mod prune;
mod pull;
mod rm;

use bandsox_store::Store;
use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::output::Ui;

/// Pull, list and remove images
///
/// An image is named as everywhere: `ubuntu`, `ghcr.io/owner/name:tag`, `name@sha256:…`,
/// `oci:DIR[:TAG]`, `docker-archive:FILE`. One that is here can also be named by at least six
/// digits of its digest.
#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Subcommand, Debug)]
enum ImageCommand {
    Pull(pull::PullImageArgs),
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    Inspect(inspect::InspectImageArgs),
    #[command(visible_alias = "remove")]
    Rm(rm::RmImageArgs),
    Prune(prune::PruneArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
}

/// Runs the command that the user gave.
pub(crate) fn run(ui: &Ui, store: &Store, args: ImageArgs) -> Result<(), Failure> {
    match args.command {
        ImageCommand::Pull(args) => pull::run(ui, store, &args),
        ImageCommand::Ls(args) => ls::run(ui, store, &args),
        ImageCommand::Inspect(args) => inspect::run(ui, store, &args),
        ImageCommand::Rm(args) => rm::run(ui, store, &args),
        ImageCommand::Prune(args) => prune::run(ui, store, &args),
        ImageCommand::Import(args) => import::run(ui, store, &args),
        ImageCommand::Export(args) => export::run(ui, store, &args),
    }
}
