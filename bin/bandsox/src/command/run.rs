//! `bandsox run`

use std::ffi::OsString;
use std::process::ExitCode;

use bandsox_client::exec::Begin;
use bandsox_store::Store;

use super::create::{self, VmConfig};
use super::exec::{self, ExecOptions, Job};
use super::rm;
use super::start::{self, StartMode};
use crate::failure::Failure;
use crate::images;
use crate::output::Ui;
use crate::session::{self, Manner};
use crate::signals::Signals;
use crate::storage::Vm;

/// Create a VM, start it and run a command in it
///
/// Without CMD it is the image's own command that runs.
///
/// With --rm the VM is removed afterwards, also if the run is interrupted; without it the VM goes
/// on running.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox run --rm ubuntu:24.04 -- uname -a
  bandsox run nginx                # the image's own command
  bandsox run --rm -it ./rootfs.ext4 -- sh
  bandsox run --name build --vcpu 2 ./rootfs.tar -- make")]
pub(crate) struct RunArgs {
    /// Image name, or path of an .ext4 file, a .tar archive or a directory
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Remove the VM when the command ends
    #[arg(long)]
    rm: bool,

    #[command(flatten)]
    config: VmConfig,

    #[command(flatten)]
    mode: StartMode,

    #[command(flatten)]
    options: ExecOptions,

    /// Program to run instead of the image's entrypoint; "" for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// Command and its arguments, instead of the image's own
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Creates, starts, runs and, if wanted, removes.
pub(crate) fn run(ui: &Ui, store: &Store, args: RunArgs) -> Result<ExitCode, Failure> {
    let RunArgs { image, rm, config, mode, options, entrypoint, command } = args;
    let mut words = Vec::new();
    let id = create::create(ui, store, &image, config, |of_image| {
        words = of_image.command(entrypoint.as_deref(), &command);
        if words.is_empty() {
            let failure =
                Failure::new(format!("{} says nothing of what to run", images::quoted(&image)));
            return Err(failure.hint(format!("give a command: bandsox run {image} -- CMD")));
        }
        Ok(())
    })?;
    // From here on there is something to clean up: no signal ends the process before that is done.
    let mut signals = Signals::catch()?;
    let job = Job { command: &words, env: &[], options: &options, makes_workdir: true };
    let outcome = start_and_run(Vm { ui, store, id: &id }, mode, &job, &mut signals);
    if !rm {
        return outcome.map_err(|failure| {
            failure.hint(format!("the VM is still there; `bandsox rm -f {id}` removes it"))
        });
    }
    let removed = rm::kill(store, &id).and_then(|()| rm::remove(store, &id));
    if let Err(failure) = removed {
        ui.report(&failure.context(format!("could not remove VM {id}")));
    }
    outcome
}

fn start_and_run(
    vm: Vm<'_>,
    mode: StartMode,
    job: &Job<'_>,
    signals: &mut Signals,
) -> Result<ExitCode, Failure> {
    let Vm { ui, store, id } = vm;
    start::start(ui, store, id, mode)?;
    if let Some(signal) = signals.interruption() {
        return Err(Failure::silent(128_u8.saturating_add(signal)));
    }
    let session = exec::fresh_session()?;
    let request = job.request(store, id, session);
    let manner = Manner { stdin: request.stdin, tty: request.tty.is_some(), leave: false };
    session::attend(vm, Begin::Run(request), manner, signals)
}
