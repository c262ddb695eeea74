//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod cleanup;
pub(crate) mod completion;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod df;
pub(crate) mod doctor;
pub(crate) mod download;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod internal;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod resume;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod terminal;
pub(crate) mod upload;

use std::process::ExitCode;

use bandsox_store::{Create, Store};

use crate::cli::{Cli, Command};
use crate::failure::{EXEC_FAILED, Failure};
use crate::output::Ui;
use crate::storage;

/// Runs the command that the user gave.
pub(crate) fn run(ui: &Ui, cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    let store = |create: Create| storage::open(global.storage.as_deref(), create);
    let existing = || store(Create::No);
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Init(args) => init::run(ui, &store(Create::Yes)?, &args).map(done),
        Command::Create(args) => create::run(ui, &existing()?, args).map(done),
        Command::Start(args) => start::run(ui, &existing()?, &args).map(done),
        Command::Stop(args) => stop::run(ui, &existing()?, &args).map(done),
        Command::Restart(args) => restart::run(ui, &existing()?, &args).map(done),
        Command::Pause(args) => pause::run(ui, &existing()?, &args).map(done),
        Command::Resume(args) => resume::run(ui, &existing()?, &args).map(done),
        Command::Rm(args) => rm::run(ui, &existing()?, &args).map(done),
        Command::Rename(args) => rename::run(ui, &existing()?, &args).map(done),
        Command::List(args) => list::run(ui, &existing()?, &args).map(done),
        Command::Inspect(args) => inspect::run(ui, &existing()?, &args).map(done),
        Command::Logs(args) => logs::run(ui, &existing()?, &args).map(done),
        Command::Image(args) => image::run(ui, &existing()?, args).map(done),
        Command::Exec(args) => in_guest(existing, |store| exec::run(ui, store, args)),
        Command::Terminal(args) => in_guest(existing, |store| terminal::run(ui, store, args)),
        Command::Run(args) => in_guest(existing, |store| run::run(ui, store, args)),
        Command::Upload(args) => upload::run(ui, &existing()?, &args).map(done),
        Command::Download(args) => download::run(ui, &existing()?, &args).map(done),
        Command::Cp(args) => cp::run(ui, &existing()?, &args).map(done),
        Command::Df(args) => df::run(ui, &existing()?, &args).map(done),
        Command::Doctor(args) => doctor::run(ui, global.storage.as_deref(), &args),
        Command::Cleanup(args) => cleanup::run(ui, &existing()?, &args).map(done),
        Command::Completion(args) => completion::run(&args).map(done),
        Command::Bench(args) => bench::run(ui, &existing()?, &args).map(done),
        Command::Monitor(args) => Ok(internal::monitor(global, args)),
        Command::Jail(_) => Ok(bandsox_jail::launcher_main()),
        Command::Probe(_) => Ok(bandsox_jail::probe_main()),
    }
}

/// Runs a command whose exit code is the guest's, so that failures of our own need another one.
fn in_guest(
    store: impl FnOnce() -> Result<Store, Failure>,
    run: impl FnOnce(&Store) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    store().and_then(|store| run(&store)).map_err(|failure| failure.code_if_general(EXEC_FAILED))
}
