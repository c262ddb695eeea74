//! Self-hosted microVM sandboxes: one program, no daemon.

mod agent;
mod cli;
mod command;
mod doctor;
mod failure;
mod images;
mod logging;
mod output;
mod progress;
mod session;
mod signals;
mod storage;
mod terminal;
mod transfer;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ui = output::Ui::new(&cli.global);
    if !cli.command.is_internal() {
        logging::start(&cli.global);
    }
    match command::run(&ui, cli) {
        Ok(code) => code,
        Err(failure) => ui.fail(&failure),
    }
}
