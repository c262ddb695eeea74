//! `bandsox create`

use bandsox_image::overlay;
use bandsox_spec::{DiskSizeMib, EngineChoice, EnvVar, ImageConfig, MemMib, Vcpus, VmId, VmName};
use bandsox_store::{NewVm, Store};

use crate::failure::{Explain as _, Failure};
use crate::images::{self, PullArgs, PullPolicy, Ready};
use crate::output::Ui;

/// Create a VM and print its id; does not start it
///
/// IMAGE is a name such as `ubuntu:24.04` or `ghcr.io/owner/name@sha256:…`, pulled when it is not
/// here; `oci:DIR[:TAG]`; `docker-archive:FILE`; or a path to an .ext4 file, a .tar archive or a
/// directory. The image is never written to: each VM has a disk of its own above it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox create ubuntu:24.04 --name web
  bandsox create ./rootfs.ext4
  bandsox create ./rootfs.tar --vcpu 2 --mem 512 -e LANG=C.UTF-8
  id=$(bandsox create ./rootfs-dir --disk-size 2048)")]
pub(crate) struct CreateArgs {
    /// Image name, or path of an .ext4 file, a .tar archive or a directory
    #[arg(value_name = "IMAGE")]
    pub(super) image: String,

    #[command(flatten)]
    pub(super) config: VmConfig,
}

/// What a new VM is made of; `create` and `run` share it.
#[derive(clap::Args, Debug)]
pub(crate) struct VmConfig {
    /// Name of the VM; any VM can also be named by its id
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<VmName>,

    /// Number of virtual CPUs
    #[arg(long, visible_alias = "vcpus", value_name = "N", default_value_t)]
    pub(super) vcpu: Vcpus,

    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t)]
    pub(super) mem: MemMib,

    /// Size of the VM's own disk in MiB; it takes space only as it fills
    #[arg(long, value_name = "MIB", default_value_t)]
    pub(super) disk_size: DiskSizeMib,

    /// Environment variable of every command in the VM; may be repeated
    #[arg(long = "env", short, value_name = "KEY=VALUE")]
    pub(super) env: Vec<EnvVar>,

    /// What runs the VM
    #[arg(long, value_name = "auto|qemu|kvm", default_value_t)]
    pub(super) engine: EngineChoice,

    /// When to ask a registry for the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(super) pull: PullPolicy,

    #[command(flatten)]
    pub(super) registries: PullArgs,
}

/// Creates the VM and prints its id.
pub(crate) fn run(ui: &Ui, store: &Store, args: CreateArgs) -> Result<(), Failure> {
    let CreateArgs { image, config } = args;
    let id = create(ui, store, &image, config, |_| Ok(()))?;
    if ui.is_json() { ui.json(&serde_json::json!({ "id": id })) } else { ui.line(&id) }
}

/// Creates a VM, unless `fits` refuses what the image says about its program. Whatever fails, nothing stays behind.
pub(super) fn create(
    ui: &Ui,
    store: &Store,
    image: &str,
    config: VmConfig,
    fits: impl FnOnce(&ImageConfig) -> Result<(), Failure>,
) -> Result<VmId, Failure> {
    let VmConfig { name, vcpu, mem, disk_size, env, engine, pull, registries } = config;
    if engine == EngineChoice::Kvm {
        return Err(Failure::new("the kvm engine does not exist yet")
            .hint("use --engine auto or --engine qemu; qemu uses KVM where that works"));
    }
    let cannot = format!("cannot create a VM from {}", images::quoted(image));
    let creation = store.begin_create(name.as_ref()).map_err(images::advised).context(&cannot)?;
    let Ready { base, reference, config: image_config, .. } =
        &images::ready(ui, store, image, pull, &registries).context(&cannot)?;
    fits(image_config)?;
    if base.dirty_journal {
        ui.warn(format!(
            "{image} was not unmounted cleanly: its last changes may be missing in the VM"
        ));
    }
    let size = u64::from(disk_size.get());
    overlay::create(&creation.overlay_path(), size, &store.paths().disks())
        .map_err(images::advised)
        .context(&cannot)?;
    let metadata = creation.commit(NewVm {
        name,
        image: image.to_owned(),
        image_reference: reference.clone(),
        rootfs_path: base.path.clone(),
        base_identity: serde_json::to_value(&base.identity)?,
        vcpus: vcpu,
        mem_mib: mem,
        disk_size_mib: disk_size,
        env_vars: env,
        engine,
        image_config: image_config.clone(),
    });
    Ok(metadata.context(&cannot)?.id().clone())
}
