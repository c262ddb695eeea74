//! A running QEMU, commanded over QMP.

use std::time::Duration;

use bandsox_engine::{CommandError, Engine, EngineInfo, KillSwitch, VsockPlug};
use serde_json::{Value, json};

use crate::arguments::{VSOCK_DEVICE, VSOCK_PORT};
use crate::commander::Commander;
use crate::start::COMMAND_TIMEOUT;

/// A running QEMU. Dropping it kills the process.
pub struct QemuEngine {
    info: EngineInfo,
    commander: Commander,
    kill_switch: KillSwitch,
    /// How many vsock devices this machine has had: each needs a name of its own.
    vsock_generation: u32,
}

impl QemuEngine {
    pub(crate) fn new(info: EngineInfo, commander: Commander, kill_switch: KillSwitch) -> Self {
        Self { info, commander, kill_switch, vsock_generation: 0 }
    }

    fn run(
        &mut self,
        what: &'static str,
        name: &str,
        arguments: Value,
    ) -> Result<Value, CommandError> {
        self.commander.run(what, name, arguments, COMMAND_TIMEOUT)
    }

    fn vsock_chardev(&self) -> String {
        format!("{VSOCK_DEVICE}-{}", self.vsock_generation)
    }
}

impl Engine for QemuEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn boot(&mut self) -> Result<(), CommandError> {
        self.run("boot", "cont", json!({})).map(drop)
    }

    fn pause(&mut self) -> Result<(), CommandError> {
        self.run("pause", "stop", json!({})).map(drop)
    }

    fn resume(&mut self) -> Result<(), CommandError> {
        self.run("resume", "cont", json!({})).map(drop)
    }

    fn is_running(&mut self) -> Result<bool, CommandError> {
        let status = self.run("tell its state", "query-status", json!({}))?;
        Ok(status.get("running").and_then(Value::as_bool).unwrap_or(false))
    }

    fn press_power_button(&mut self) -> Result<(), CommandError> {
        self.run("press the power button", "system_powerdown", json!({})).map(drop)
    }

    fn quit(&mut self) -> Result<(), CommandError> {
        match self.run("quit", "quit", json!({})) {
            Ok(_) | Err(CommandError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn kill(&mut self) {
        self.kill_switch.pull();
    }

    fn plug_vsock(&mut self, plug: VsockPlug) -> Result<(), CommandError> {
        const WHAT: &str = "plug a vsock device";
        let VsockPlug { socket } = plug;
        self.vsock_generation = self.vsock_generation.saturating_add(1);
        let chardev = self.vsock_chardev();
        self.commander.run_with_fd(
            WHAT,
            "getfd",
            json!({"fdname": chardev}),
            Some(socket),
            COMMAND_TIMEOUT,
        )?;
        let address = json!({"type": "fd", "data": {"str": chardev}});
        let backend = json!({"type": "socket", "data": {"addr": address, "server": false}});
        self.run(WHAT, "chardev-add", json!({"id": chardev, "backend": backend}))?;
        let device = json!({
            "driver": "vhost-user-vsock-pci",
            "id": VSOCK_DEVICE,
            "bus": VSOCK_PORT,
            "addr": "0x0",
            "chardev": chardev,
        });
        let plugged = self.run(WHAT, "device_add", device);
        if plugged.is_err() {
            // Its own failure is the lesser news.
            self.run(WHAT, "chardev-remove", json!({"id": chardev})).ok();
        }
        plugged.map(drop)
    }

    fn unplug_vsock(&mut self, timeout: Duration) -> Result<(), CommandError> {
        const WHAT: &str = "unplug the vsock device";
        self.run(WHAT, "device_del", json!({"id": VSOCK_DEVICE}))?;
        self.commander.wait_for_device_gone(WHAT, VSOCK_DEVICE, timeout)?;
        let chardev = self.vsock_chardev();
        self.run(WHAT, "chardev-remove", json!({"id": chardev})).map(drop)
    }
}

impl Drop for QemuEngine {
    fn drop(&mut self) {
        self.kill_switch.pull();
    }
}
