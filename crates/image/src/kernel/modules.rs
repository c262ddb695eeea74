//! Which modules the guest needs, and in which order they go in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::modinfo::{ModInfo, normal};
use super::signature::{self, Signatures};
use crate::archive::decoder;

/// When the agent loads a module; the value of `when` in `/etc/bandsox/modules.json`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(super) enum When {
    /// Before anything is mounted.
    Boot,
    /// Before the agent listens on vsock.
    Vsock,
    /// Before it opens the serial link.
    Serial,
    /// Once the agent is ready.
    Late,
}

/// A module as it goes into the initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Name with underscores.
    pub(super) name: String,
    /// When to load it; its dependencies come before it in the list.
    pub(super) when: When,
    /// The `.ko` file, decompressed.
    pub(super) bytes: Vec<u8>,
}

/// Everything the guest needs, in loading order, and what the kernel cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) modules: Vec<Module>,
    pub(super) has_vsock: bool,
    pub(super) has_erofs: bool,
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModulesError {
    /// The directory of modules cannot be read.
    #[error("could not read {path}")]
    Io {
        /// What was being read.
        path: PathBuf,
        /// What the operating system or the decompressor said.
        source: io::Error,
    },
    /// Without this driver no guest of ours starts.
    #[error("the kernel has no {name}: neither built in nor as a module in {dir}")]
    Missing {
        /// The module.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A module needs another one that is not there.
    #[error("module {name} needs {dependency}, which is not in {dir}")]
    MissingDependency {
        /// The module.
        name: String,
        /// What it needs.
        dependency: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A file that should be a module is not one.
    #[error("{path} is not an x86-64 kernel module")]
    NotAModule {
        /// The file.
        path: PathBuf,
    },
    /// Kernel and modules are not of one build.
    #[error("module {name} is for kernel {module}, the kernel is {kernel}")]
    OtherKernel {
        /// The module.
        name: String,
        /// The release in its `vermagic`.
        module: String,
        /// The kernel's release.
        kernel: String,
    },
}

/// A directory of modules, as `/lib/modules/<version>` or flat.
#[derive(Debug)]
pub(super) struct Library {
    dir: PathBuf,
    files: BTreeMap<String, PathBuf>,
    /// `None` where there is no list: then what is no file is taken to be built in.
    builtin: Option<BTreeSet<String>>,
}

impl Library {
    /// Lists the modules below `dir`, following no links.
    pub(super) fn open(dir: &Path) -> Result<Self, ModulesError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| ModulesError::Io { path, source }
        };
        let mut files = BTreeMap::new();
        let mut pending = vec![dir.to_owned()];
        while let Some(next) = pending.pop() {
            for entry in fs::read_dir(&next).map_err(io_error(&next))? {
                let entry = entry.map_err(io_error(&next))?;
                let kind = entry.file_type().map_err(io_error(&next))?;
                if kind.is_dir() {
                    pending.push(entry.path());
                } else if kind.is_file()
                    && let Some(name) = entry.file_name().to_str().and_then(module_name)
                {
                    files.insert(name, entry.path());
                }
            }
        }
        let list = dir.join("modules.builtin");
        let builtin = match fs::read_to_string(&list) {
            Ok(text) => Some(
                text.lines().filter_map(|line| module_name(line.rsplit('/').next()?)).collect(),
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(ModulesError::Io { path: list, source }),
        };
        Ok(Self { dir: dir.to_owned(), files, builtin })
    }

    /// Chooses the guest's modules for kernel release `version`.
    pub(super) fn plan(&self, version: &str, signatures: Signatures) -> Result<Plan, ModulesError> {
        let mut planner = Planner {
            library: self,
            version,
            signatures,
            done: BTreeSet::new(),
            modules: Vec::new(),
        };
        for name in REQUIRED {
            planner.require(name, When::Boot)?;
        }
        let has_erofs = planner.want("erofs", When::Boot)?;
        let has_vsock = planner.want("vmw_vsock_virtio_transport", When::Vsock)?;
        planner.want("virtio_console", When::Serial)?;
        for name in ["pvpanic_mmio", "pvpanic_pci"] {
            planner.want(name, When::Late)?;
        }
        Ok(Plan { modules: planner.modules, has_vsock, has_erofs })
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.as_ref().is_none_or(|names| names.contains(name))
    }
}

struct Planner<'a> {
    library: &'a Library,
    version: &'a str,
    signatures: Signatures,
    done: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Planner<'_> {
    fn require(&mut self, name: &str, when: When) -> Result<(), ModulesError> {
        if self.want(name, when)? {
            return Ok(());
        }
        Err(ModulesError::Missing { name: name.to_owned(), dir: self.library.dir.clone() })
    }

    /// Adds `name` after everything that it needs. `false` if the kernel does not have it.
    fn want(&mut self, name: &str, when: When) -> Result<bool, ModulesError> {
        if self.done.contains(name) {
            return Ok(true);
        }
        let Some(path) = self.library.files.get(name) else {
            return Ok(self.library.is_builtin(name));
        };
        // Marked before its dependencies are visited, so that a circle of lies ends.
        self.done.insert(name.to_owned());
        let bytes = read_module(path)?;
        let info =
            ModInfo::of(&bytes).ok_or_else(|| ModulesError::NotAModule { path: path.clone() })?;
        self.check_release(name, info.release)?;
        for dependency in &info.soft_before {
            // The name is often an algorithm, and `_generic` the module that always has it.
            if !self.library.files.contains_key(dependency) {
                self.want(&format!("{dependency}_generic"), when)?;
            } else {
                self.want(dependency, when)?;
            }
        }
        for dependency in info.depends {
            if !self.want(&dependency, when)? {
                let dir = self.library.dir.clone();
                return Err(ModulesError::MissingDependency {
                    name: name.to_owned(),
                    dependency,
                    dir,
                });
            }
        }
        let bytes = match self.signatures {
            Signatures::Keep => bytes,
            Signatures::Drop => signature::without(bytes),
        };
        self.modules.push(Module { name: name.to_owned(), when, bytes });
        Ok(true)
    }

    fn check_release(&self, name: &str, release: Option<String>) -> Result<(), ModulesError> {
        match release {
            Some(module) if module != self.version => Err(ModulesError::OtherKernel {
                name: name.to_owned(),
                module,
                kernel: self.version.to_owned(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

fn read_module(path: &Path) -> Result<Vec<u8>, ModulesError> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(decoder)
        .and_then(|decoder| decoder.take(MAX_MODULE).read_to_end(&mut bytes))
        .map_err(|source| ModulesError::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// `virtio_pci` of `virtio-pci.ko.xz`; `None` for what is no module's name.
pub(super) fn module_name(file_name: &str) -> Option<String> {
    let stem = file_name.trim_end_matches(".gz").trim_end_matches(".xz").trim_end_matches(".zst");
    let stem = stem.strip_suffix(".ko")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+,".contains(&byte);
    (!stem.is_empty() && stem.len() <= 100 && stem.bytes().all(is_plain)).then(|| normal(stem))
}

/// What every guest needs: its disks, and the three file systems of its root.
const REQUIRED: [&str; 4] = ["virtio_pci", "virtio_blk", "ext4", "overlay"];
/// The largest real modules are some tens of MiB.
const MAX_MODULE: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_s_name_is_read_off_its_file_whatever_packed_it() {
        for file in ["virtio-pci.ko", "virtio_pci.ko.xz", "virtio-pci.ko.zst", "virtio_pci.ko.gz"] {
            assert_eq!(module_name(file), Some("virtio_pci".to_owned()), "{file}");
        }
        assert_eq!(module_name("modules.dep"), None);
        assert_eq!(module_name(".ko"), None);
        assert_eq!(module_name("a/b.ko"), None);
    }

    #[test]
    fn a_kernel_without_a_disk_driver_is_refused_and_one_without_vsock_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let list = dir.path().join("modules.builtin");
        let builtin = |names: &[&str]| {
            fs::write(
                &list,
                names.iter().map(|name| format!("kernel/x/{name}.ko\n")).collect::<String>(),
            )
            .expect("writes");
            Library::open(dir.path()).expect("opens").plan("6.1.0", Signatures::Keep)
        };

        let refused = builtin(&["virtio_pci", "ext4", "overlay"]).expect_err("no virtio_blk");
        assert!(
            matches!(&refused, ModulesError::Missing { name, .. } if name == "virtio_blk"),
            "{refused}"
        );

        let plan = builtin(&["virtio-pci", "virtio_blk", "ext4", "overlay"]).expect("enough");
        assert_eq!(plan, Plan { modules: Vec::new(), has_vsock: false, has_erofs: false });

        fs::remove_file(&list).expect("removes");
        let plan = Library::open(dir.path())
            .expect("opens")
            .plan("6.1.0", Signatures::Keep)
            .expect("presumed built in");
        assert!(plan.has_vsock && plan.has_erofs);
    }

    #[test]
    fn a_file_that_is_no_module_is_refused_by_path() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("virtio_pci.ko"), b"nonsense").expect("writes");

        let refused = Library::open(dir.path())
            .expect("opens")
            .plan("6.1.0", Signatures::Keep)
            .expect_err("nonsense");

        assert!(matches!(refused, ModulesError::NotAModule { .. }), "{refused}");
    }
}
