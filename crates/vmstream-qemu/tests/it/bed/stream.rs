//! Streams of guests that run: taken from real QEMUs, and given back to them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Machine, Pair, Qemu, Vm};

impl Vm {
    /// A guest that counts.
    pub(crate) fn counting(qemu: &Qemu, machine: Machine, dir: &Path) -> Self {
        let vm = Self::boot(qemu, machine, dir);
        vm.ticks_past(1);
        vm
    }

    /// Migrates into a pipe, and returns what came out of it.
    pub(crate) fn save(&mut self) -> Vec<u8> {
        let stream = self.dir.join("saved");
        self.migrate(&format!("exec:cat >{}", stream.display()));
        fs::read(stream).expect("the stream")
    }

    /// The same with pages sent as what differs of them: held back until one was.
    pub(crate) fn save_after_differences(&mut self) -> Vec<u8> {
        let stream = self.dir.join("saved");
        // A millisecond is enough for five pages; a guest that changes more does not come to an end. (With none, QEMU ends
        // after the first pass, whatever has changed meanwhile.)
        let endless = json!({ "max-bandwidth": 20_000_000, "downtime-limit": 1 });
        self.qmp.ask("migrate-set-parameters", endless);
        self.qmp.ask("migrate", json!({ "uri": format!("exec:cat >{}", stream.display()) }));
        self.wait_until("query-migrate", |answer| {
            answer.pointer("/xbzrle-cache/pages").and_then(Value::as_u64) > Some(0)
        });
        let swift = json!({ "max-bandwidth": 4_000_000_000u64, "downtime-limit": 1000 });
        self.qmp.ask("migrate-set-parameters", swift);
        self.wait_migrated();
        fs::read(stream).expect("the stream")
    }
}

/// Starts a QEMU with `bytes` as its stream; the guest goes on counting from `tick` with the same checksum.
pub(crate) fn loads(
    qemu: &Qemu,
    machine: Machine,
    (dir, name): (&Path, &str),
    bytes: &[u8],
    tick: &(u64, String),
) -> Vm {
    let file = dir.join(format!("{name}.stream"));
    fs::write(&file, bytes).expect("a file");
    let mut vm = Vm::waiting(qemu, machine, dir, name);
    vm.qmp.ask("migrate-incoming", json!({ "uri": format!("exec:cat {}", file.display()) }));
    vm.wait_status("running");
    let (count, sum) = vm.ticks_past(tick.0);

    assert!(count < tick.0 + 1000, "{name}: the counter goes on from {}, not {count}", tick.0);
    assert_eq!(sum, tick.1, "{name}: the guest's memory is right");
    fs::remove_file(file).expect("it can be removed");
    vm
}

impl Pair {
    /// Begins by precopy, slowly, and goes over to postcopy as soon as that is possible.
    pub(crate) fn migrate_by_postcopy(&mut self) {
        self.capability("postcopy-ram");
        self.listen();
        self.source.qmp.ask("migrate-set-parameters", json!({ "max-bandwidth": 20_000_000 }));
        self.source.qmp.ask("migrate", json!({ "uri": self.uri }));
        while self.source.qmp.try_ask("migrate-start-postcopy", json!({})).is_err() {}
        self.source.wait_migrated();
    }
}
