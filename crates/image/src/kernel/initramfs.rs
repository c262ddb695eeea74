//! What the guest's kernel finds in memory: the agent as `/init`, the modules, and the list by which it loads them.

use serde::{Deserialize, Serialize};

use super::cpio::{self, TooLarge, Writer};
use super::modules::{Module, When};

/// One element of `/etc/bandsox/modules.json`, which the agent reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    name: String,
    file: String,
    when: When,
}

/// Puts an initramfs together, uncompressed: unpacking costs an emulated guest more than the bytes do.
pub(super) fn build(version: &str, modules: &[Module], agent: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let path = |module: &Module| format!("lib/modules/{version}/{}.ko", module.name);
    let list: Vec<_> = modules
        .iter()
        .map(|module| Listed {
            name: module.name.clone(),
            file: format!("/{}", path(module)),
            when: module.when,
        })
        .collect();
    let json = serde_json::to_vec(&list).expect("names and two-word enums are always JSON");

    let mut writer = Writer::default();
    // The kernel opens this for PID 1's standard streams before anything is mounted.
    writer.device("dev/console", 0o600, (5, 1))?;
    for directory in ["proc", "sys", "mnt"] {
        writer.directory(directory)?;
    }
    writer.file(MODULE_LIST, 0o644, &json)?;
    for module in modules {
        writer.file(&path(module), 0o644, &module.bytes)?;
    }
    writer.file("init", 0o755, agent)?;
    writer.finish()
}

/// The modules of an initramfs that [`build`] made, so that it can be made again with another agent.
pub(super) fn modules_of(initramfs: &[u8]) -> Option<Vec<Module>> {
    let entries = cpio::read(initramfs)?;
    let contents =
        |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| entry.data);
    let list: Vec<Listed> = serde_json::from_slice(contents(MODULE_LIST)?).ok()?;
    list.into_iter()
        .map(|Listed { name, file, when }| {
            let bytes = contents(file.strip_prefix('/')?)?.to_vec();
            Some(Module { name, when, bytes })
        })
        .collect()
}

const MODULE_LIST: &str = "etc/bandsox/modules.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_gives_its_modules_back_and_is_the_same_each_time() {
        let module = |name: &str, when| Module {
            name: name.to_owned(),
            when,
            bytes: name.as_bytes().to_vec(),
        };
        let modules = vec![module("virtio_pci", When::Boot), module("vsock", When::Vsock)];

        let first = build("6.1.0", &modules, b"agent").expect("small");
        let second = build("6.1.0", &modules_of(&first).expect("whole"), b"agent").expect("small");

        assert!(first == second);
    }

    #[test]
    fn the_list_names_file_and_time_as_the_agent_expects() {
        let modules = [Module { name: "vsock".to_owned(), when: When::Vsock, bytes: Vec::new() }];
        let initramfs = build("6.1.0", &modules, b"agent").expect("small");

        let entries = cpio::read(&initramfs).expect("whole");
        let list = entries.iter().find(|entry| entry.name == MODULE_LIST).expect("is there");

        let want = r#"[{"name":"vsock","file":"/lib/modules/6.1.0/vsock.ko","when":"vsock"}]"#;
        assert_eq!(str::from_utf8(list.data), Ok(want));
    }
}
