//! `bandsox init`

use std::path::PathBuf;

use bandsox_image::kernel::{self, Force, InstallError, Source};
use bandsox_store::Store;

use crate::agent::AGENT;
use crate::failure::{Explain as _, Failure};
use crate::output::Ui;

/// Put a kernel, its modules and the guest's init into storage
///
/// Without options the kernel is the newest one below /boot that has its modules in /lib/modules.
/// Run again it changes nothing; what was half done or damaged is repaired.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox init
  bandsox init --kernel-deb linux-image-6.1.0-44-cloud-amd64_6.1.164-1_amd64.deb
  bandsox init --kernel ./vmlinuz --modules ./lib/modules/6.1.0-44-cloud-amd64")]
pub(crate) struct InitArgs {
    /// Kernel image: vmlinuz or ELF vmlinux
    #[arg(long, value_name = "PATH", requires = "modules", conflicts_with = "kernel_deb")]
    kernel: Option<PathBuf>,

    /// Directory with that kernel's modules
    #[arg(long, value_name = "DIR", requires = "kernel")]
    modules: Option<PathBuf>,

    /// Debian kernel package to take kernel and modules from
    #[arg(long, value_name = "FILE")]
    kernel_deb: Option<PathBuf>,

    /// Install again, even if storage already holds this kernel
    #[arg(long)]
    force: bool,
}

/// Installs the kernel that the user gave, or the host's where there is none yet.
pub(crate) fn run(ui: &Ui, store: &Store, args: &InitArgs) -> Result<(), Failure> {
    let InitArgs { kernel, modules, kernel_deb, force } = args;
    let force = if *force { Force::Yes } else { Force::No };
    let install = |source: &Source| kernel::install(store.paths().root(), source, force, AGENT);
    let installed = match (kernel, modules, kernel_deb) {
        (_, _, Some(file)) => install(&Source::Deb { file: file.clone() }),
        (Some(kernel), Some(modules), None) => {
            install(&Source::KernelAndModules { kernel: kernel.clone(), modules: modules.clone() })
        }
        // Half an option pair is refused by the command line.
        (_, _, None) => match install(&Source::Installed) {
            Err(InstallError::NotInstalled { .. }) => install(&Source::Host),
            other => other,
        },
    }
    .context("cannot install a kernel")?;

    let kernel = &installed.kernel;
    if ui.is_json() {
        return ui.json(&serde_json::json!({
            "changed": installed.changed,
            "version": kernel.version,
            "kernel": kernel.kernel,
            "initramfs": kernel.initramfs,
            "has_vsock": kernel.has_vsock,
            "storage": store.paths().root(),
        }));
    }
    let what = if installed.changed { "Installed kernel" } else { "Nothing to do: kernel" };
    let root = store.paths().root().display();
    ui.message(format!("{what} {} in {root}", kernel.version));
    if !kernel.has_vsock {
        ui.warn("this kernel has no vsock: transfers will use the serial port, which is slow");
    }
    Ok(())
}
