//! From the image that the user names to a base, and what they see of it meanwhile.

mod hints;
mod watch;

use std::cell::OnceCell;
use std::io::{self, IsTerminal as _};
use std::path::Path;

use bandsox_image::base::{self, Base, Limits};
use bandsox_oci::{
    ImageStore, ImagesLock, Input, Kind, Layers, Listed, Platform, Policy, PullOptions, Record,
    RegistrySettings, Source, classify, shown,
};
use bandsox_spec::{ImageConfig, VmId};
use bandsox_store::{Metadata, Store};

use crate::failure::{Explain as _, Failure};
use crate::output::Ui;
pub(crate) use hints::advised;
pub(crate) use watch::Watch;

/// For which machine an image is.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct MachineArgs {
    /// Machine that the image is for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", default_value = "linux/amd64")]
    pub(crate) platform: Platform,
}

/// How images come from registries; all commands that pull share it.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    machine: MachineArgs,

    /// Registry that may be spoken to without TLS, HOST or HOST:PORT; may be repeated
    #[arg(long, value_name = "HOST", value_parser = host)]
    insecure_registry: Vec<String>,
}

/// Reads `HOST` or `HOST:PORT`.
fn host(text: &str) -> Result<String, &'static str> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/@?#".contains(c);
    if text.is_empty() || text.contains(odd) {
        return Err("want HOST or HOST:PORT, without http:// and without a path");
    }
    Ok(text.to_owned())
}

/// When to ask a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PullPolicy {
    /// Each time: the name may stand for something else by now
    Always,
    /// When the image is not here
    Missing,
    /// Not at all
    Never,
}

impl From<PullPolicy> for Policy {
    fn from(policy: PullPolicy) -> Self {
        match policy {
            PullPolicy::Always => Self::Always,
            PullPolicy::Missing => Self::Missing,
            PullPolicy::Never => Self::Never,
        }
    }
}

/// An image that a VM can be made of. While this is there, nobody takes the image away.
pub(crate) struct Ready {
    pub(crate) base: Base,
    /// The image's canonical name; a path has none.
    pub(crate) reference: Option<String>,
    pub(crate) config: ImageConfig,
    _kept: ImagesLock,
}

/// Opens the images of a store.
pub(crate) fn open(store: &Store) -> Result<ImageStore, Failure> {
    Ok(ImageStore::open(&store.paths().images())?)
}

/// Makes what the user named a base: a path of this host, or the name of an image, pulled if need be.
pub(crate) fn ready(
    ui: &Ui,
    store: &Store,
    image: &str,
    policy: PullPolicy,
    args: &PullArgs,
) -> Result<Ready, Failure> {
    let (runs, platform) = (Platform::default(), &args.machine.platform);
    if !runs.accepts(platform) {
        let cannot = format!("a VM of {platform} cannot run here: guests are {runs}");
        let how = format!("`bandsox image pull --platform {platform} IMAGE` brings it");
        return Err(Failure::new(cannot).hint(format!("{how} for `bandsox image export`")));
    }
    let images = open(store)?;
    let kept = images.keep()?;
    if classify(image, |path| path.symlink_metadata().is_ok()) == Kind::Path {
        let path = std::path::absolute(Path::new(image))?;
        let base = base::prepare(&path, &store.paths().images(), &Limits::default())
            .map_err(advised)
            .hint("IMAGE is a name such as ubuntu:24.04, or a path to an .ext4 file, a .tar archive or a directory")?;
        let config = ImageConfig::default();
        return Ok(Ready { base, reference: None, config, _kept: kept });
    }
    let pulled = pull(ui, (store, &images), image, policy.into(), args)?;
    let (base, _) = Base::open(&pulled.base)?;
    let (reference, config) = (Some(pulled.record.reference), pulled.config.honoured);
    Ok(Ready { base, reference, config, _kept: kept })
}

/// Sees to it that an image is there.
pub(crate) fn pull(
    ui: &Ui,
    (store, images): (&Store, &ImageStore),
    image: &str,
    policy: Policy,
    args: &PullArgs,
) -> Result<bandsox_oci::Image, Failure> {
    let options = options(store, args)?;
    let source = Source::of_host(image, &options.cwd).map_err(|error| {
        let hint = hints::of_name(image, &error);
        Failure::from(error).hint_if(hint)
    })?;
    let reads_stdin = matches!(source, Source::Archive { input: Input::Stdin, .. });
    if reads_stdin && io::stdin().is_terminal() {
        return Err(Failure::new("no archive comes from a terminal")
            .hint("docker save NAME | bandsox image pull docker-archive:-"));
    }
    let watch = Watch::begin(ui, image);
    let pulled =
        images.pull(&source, policy, &options, &Layers::default(), &|step| watch.see(&step));
    let pulled = pulled.map_err(|error| {
        let hint = hints::of_pull(image, &error);
        Failure::from(error).hint_if(hint)
    })?;
    watch.end(&pulled);
    Ok(pulled)
}

/// What pulls need to know: mirrors and exceptions of this storage directory and the environment.
pub(crate) fn options(store: &Store, args: &PullArgs) -> Result<PullOptions, Failure> {
    let mut registries = RegistrySettings::load(store.paths().root())
        .hint("docs/formats/images.md says what can be in it")?;
    if let Ok(mirrors) = std::env::var("BANDSOX_REGISTRY_MIRROR") {
        registries.add_mirrors(&mirrors).context("BANDSOX_REGISTRY_MIRROR cannot be used")?;
    }
    for host in &args.insecure_registry {
        registries.allow_insecure(host);
    }
    Ok(PullOptions {
        platform: args.machine.platform.clone(),
        registries,
        ..PullOptions::default()
    })
}

/// How a message names what the user gave: as they wrote it, if that can be seen.
pub(crate) fn quoted(text: &str) -> String {
    if text.is_empty() { "\"\"".to_owned() } else { shown(text) }
}

/// Says which VMs use a base, but for those made under its other names, by the metadata as they are when it is first asked.
/// Damaged ones may use any.
///
/// Whoever takes images away asks under a lock that no new VM gets past.
pub(crate) fn users(store: &Store) -> impl Fn(&Path, &[&str]) -> Vec<String> + '_ {
    let known = OnceCell::new();
    let named = |id: &VmId| {
        let metadata = store.read(id).ok();
        let name = metadata.as_ref().and_then(Metadata::name);
        name.map_or_else(|| format!("VM {id}"), |name| format!("VM {name} ({id})"))
    };
    move |base, others| {
        let Ok(in_use) = known.get_or_init(|| store.bases_in_use()) else {
            return vec!["VMs whose metadata cannot be listed".to_owned()];
        };
        let damaged = in_use.damaged.iter();
        let perhaps =
            damaged.map(|path| format!("perhaps the VM of {}, which is damaged", path.display()));
        in_use.users_but_of(base, others).iter().map(named).chain(perhaps).collect()
    }
}

/// The names of a base but for the one in `record`.
pub(crate) fn other_names<'a>(listed: &'a [Listed], record: &Record) -> Vec<&'a str> {
    let same = listed.iter().map(|it| &it.record).filter(|it| it.base == record.base);
    let others = same.filter(|it| it.reference != record.reference);
    others.map(|it| it.reference.as_str()).collect()
}
