//! `bandsox completion`

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::written;

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  source <(bandsox completion bash)
  bandsox completion zsh > ~/.zfunc/_bandsox
  bandsox completion fish > ~/.config/fish/completions/bandsox.fish")]
pub(crate) struct CompletionArgs {
    /// Shell to complete for
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Prints the script for the shell.
pub(crate) fn run(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bandsox", &mut script);
    written(std::io::Write::write_all(&mut std::io::stdout().lock(), &script))
}
