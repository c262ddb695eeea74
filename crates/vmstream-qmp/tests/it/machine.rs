//! A QEMU that never runs its guest, and what it says of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use bandsox_qmp::Client;
use serde_json::json;
use vmstream_qmp::Contract;

use crate::bed::{self, Qemu};

/// What is changed in the words of the common machine; a change to nothing takes the option away.
pub(crate) type Edit<'a> = &'a [(&'a str, &'a str)];

/// Options of the common machine, by the names that edits use. Places are explicit: so one thing changed changes no other.
const COMMON: &[(&str, &str)] = &[
    ("machine", "-machine pc-i440fx-7.2"),
    ("memory", "-m 256"),
    ("smp", "-smp 1"),
    ("cpu", "-cpu max"),
    ("drive", "-drive if=none,id=d0,file=d.img,format=raw,file.locking=off"),
    ("blk", "-device virtio-blk-pci,drive=d0,addr=2"),
    ("netdev", "-netdev user,id=n0"),
    ("net", "-device virtio-net-pci,netdev=n0,addr=3"),
    ("rng", "-device virtio-rng-pci,addr=4"),
    ("chardev", "-chardev null,id=c0"),
    ("serial", "-device virtio-serial-pci,addr=5"),
    ("console", "-device virtconsole,chardev=c0"),
    ("balloon", "-device virtio-balloon-pci,addr=6"),
    ("input", "-device virtio-keyboard-pci,addr=7"),
    ("display", "-display none"),
];

/// Starts one, has it tell its contract, and ends it.
pub(crate) fn contract(qemu: &Qemu, edit: Edit<'_>, is_destination: bool, dir: &Path) -> Contract {
    let mut running = Running::of(qemu, edit, is_destination, dir);
    vmstream_qmp::read(&mut running.client).expect("a contract")
}

/// A QEMU that runs. It ends with this value.
pub(crate) struct Running {
    child: Child,
    pub(crate) client: Client,
    own: tempfile::TempDir,
}

impl Running {
    /// The common machine with these changes.
    pub(crate) fn of(qemu: &Qemu, edit: Edit<'_>, waits: bool, dir: &Path) -> Self {
        let mut options: BTreeMap<&str, &str> = COMMON.iter().copied().collect();
        let is_own = |name: &str| !name.starts_with("capability ");
        options.extend(edit.iter().filter(|(name, _)| is_own(name)).copied());
        let mut running = Self::start(qemu, &options, waits, dir);
        for (name, _) in edit.iter().filter(|(name, _)| !is_own(name)) {
            let name = name.trim_start_matches("capability ");
            let wanted = json!({ "capabilities": [{ "capability": name, "state": true }] });
            let set = running.client.run("migrate-set-capabilities", wanted);
            set.expect("QEMU has the capability");
        }
        running
    }

    /// The socket of a second monitor.
    pub(crate) fn monitor(&self) -> PathBuf {
        self.own.path().join("monitor")
    }

    fn start(qemu: &Qemu, options: &BTreeMap<&str, &str>, waits: bool, dir: &Path) -> Self {
        for (name, size) in
            [("d.img", 64 << 20), ("larger.img", 128 << 20), ("other.img", 64 << 20)]
        {
            File::create(dir.join(name)).and_then(|file| file.set_len(size)).expect("a disk");
        }
        let own = tempfile::tempdir().expect("a directory");
        let mut command = qemu.command();
        command.current_dir(dir).args(["-nodefaults", "-no-user-config", "-S", "-accel", "tcg"]);
        // What others name, comes before them.
        let mut ordered: Vec<_> = COMMON.iter().map(|(name, _)| *name).collect();
        let more: Vec<_> = options.keys().copied().filter(|name| !ordered.contains(name)).collect();
        let (first, last): (Vec<_>, Vec<_>) =
            more.into_iter().partition(|name| name.starts_with("before"));
        ordered.splice(0..0, first);
        ordered.extend(last);
        for name in ordered {
            command.args(options[name].split_whitespace());
        }
        if waits {
            command.args(["-incoming", "defer"]);
        }
        let socket = own.path().join("qmp");
        for socket in [&socket, &own.path().join("monitor")] {
            command.args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())]);
        }
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("QEMU starts");
        let client = bed::qmp::client(&socket);
        Self { child, client, own }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
