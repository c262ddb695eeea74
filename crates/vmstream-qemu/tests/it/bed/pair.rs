//! Two QEMUs and what lies between them.

use std::path::Path;

use serde_json::json;

use super::{Machine, Qemu, Tee, Vm};

/// A source, a destination, and between them what keeps the stream.
pub(crate) struct Pair {
    pub(crate) source: Vm,
    pub(crate) destination: Vm,
    pub(crate) tee: Tee,
    pub(crate) uri: String,
}

impl Pair {
    pub(crate) fn new(qemu: &Qemu, machine: Machine, dir: &Path) -> Self {
        let source = Vm::boot(qemu, machine, dir);
        source.ticks_past(1);
        let destination = Vm::waiting(qemu, machine, dir, "destination");
        let (here, there) = (dir.join("tee"), dir.join("incoming"));
        let tee = Tee::start(&here, there);
        Self { source, destination, tee, uri: format!("unix:{}", here.display()) }
    }

    pub(crate) fn capability(&mut self, name: &str) {
        self.source.qmp.capability(name, true);
        self.destination.qmp.capability(name, true);
    }

    pub(crate) fn listen(&mut self) {
        let uri = format!("unix:{}", self.destination.dir.join("incoming").display());
        self.destination.qmp.ask("migrate-incoming", json!({ "uri": uri }));
    }
}
