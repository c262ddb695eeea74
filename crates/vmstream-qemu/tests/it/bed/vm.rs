//! One QEMU with the test's guest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::qmp::Qmp;
use super::{Bed, Qemu};

/// Guest memory in MiB.
const MEMORY: u64 = 128;

/// What one guest has that others have not.
#[derive(Clone, Copy)]
struct Guest {
    mebibytes: u64,
    /// Words for its kernel.
    kernel: &'static str,
}

const USUAL: Guest = Guest { mebibytes: MEMORY, kernel: "" };
const HOLDING: Guest = Guest { mebibytes: 512, kernel: "held=256" };

/// What the guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    Pc,
    Q35,
    Microvm,
    /// So old that its sections have no footers and its stream no configuration.
    Old,
}

impl Machine {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Pc => &["-M", "pc-i440fx-7.2,memory-backend=mem"],
            Self::Q35 => &["-M", "pc-q35-7.2,memory-backend=mem"],
            Self::Old => &["-M", "pc-i440fx-2.1,memory-backend=mem"],
            Self::Microvm => &["-M", "microvm,memory-backend=mem,rtc=on,pit=on,pic=on"],
        }
    }

    fn devices(self) -> &'static [&'static str] {
        match self {
            Self::Microvm => &[
                "virtio-blk-device,drive=disk",
                "virtio-net-device,netdev=net",
                "virtio-rng-device",
                "virtio-balloon-device",
                "virtio-serial-device",
                "virtconsole,chardev=console",
            ],
            Self::Pc | Self::Old => &[
                "virtio-blk-pci,drive=disk",
                "virtio-net-pci,netdev=net",
                "virtio-rng-pci",
                "virtio-balloon-pci",
                "virtio-serial-pci",
                "virtconsole,chardev=console",
            ],
            Self::Q35 => &[
                "pcie-root-port,id=rp0,chassis=1",
                "virtio-blk-pci,drive=disk,bus=rp0",
                "virtio-net-pci,netdev=net,mq=on,vectors=6",
                "virtio-rng-pci",
                "virtio-balloon-pci,free-page-reporting=on",
                "virtio-serial-pci",
                "virtconsole,chardev=console",
                "virtio-keyboard-pci",
                "virtio-scsi-pci",
                "ich9-intel-hda",
                "qemu-xhci",
            ],
        }
    }
}

/// A running QEMU. It ends with this value.
pub(crate) struct Vm {
    child: Child,
    pub(crate) dir: PathBuf,
    pub(crate) qmp: Qmp,
    name: String,
    mebibytes: u64,
}

impl Vm {
    /// A guest that boots.
    pub(crate) fn boot(qemu: &Qemu, machine: Machine, dir: &Path) -> Self {
        Self::boot_with(qemu, machine, dir, MEMORY)
    }

    /// A guest of so many MiB that boots.
    pub(crate) fn boot_with(qemu: &Qemu, machine: Machine, dir: &Path, mebibytes: u64) -> Self {
        let guest = Guest { mebibytes, ..USUAL };
        Self::start(qemu, machine, (dir, "source"), &[], guest)
    }

    /// A guest that counts, and changes pages all the time.
    pub(crate) fn busy(qemu: &Qemu, machine: Machine, dir: &Path) -> Self {
        let guest = Guest { kernel: "busy=1", ..USUAL };
        let vm = Self::start(qemu, machine, (dir, "source"), &[], guest);
        vm.ticks_past(1);
        vm
    }

    /// A guest of 512 MiB that holds data in half of them, and counts.
    pub(crate) fn holding(qemu: &Qemu, machine: Machine, dir: &Path) -> Self {
        let vm = Self::start(qemu, machine, (dir, "source"), &[], HOLDING);
        vm.ticks_past(1);
        vm
    }

    /// A machine that waits for such a guest.
    pub(crate) fn waiting_to_hold(qemu: &Qemu, machine: Machine, dir: &Path) -> Self {
        Self::start(qemu, machine, (dir, "destination"), &["-incoming", "defer"], HOLDING)
    }

    /// QEMU's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A guest that never starts, with these devices besides.
    pub(crate) fn paused(qemu: &Qemu, machine: Machine, dir: &Path, devices: &[&str]) -> Self {
        let devices = devices.iter().flat_map(|device| device.split(' '));
        let words: Vec<_> = ["-S"].into_iter().chain(devices).collect();
        Self::start(qemu, machine, (dir, "paused"), &words, USUAL)
    }

    /// A machine that waits for `migrate-incoming`.
    pub(crate) fn waiting(qemu: &Qemu, machine: Machine, dir: &Path, name: &str) -> Self {
        Self::start(qemu, machine, (dir, name), &["-incoming", "defer"], USUAL)
    }

    fn start(
        qemu: &Qemu,
        machine: Machine,
        (dir, name): (&Path, &str),
        more: &[&str],
        guest: Guest,
    ) -> Self {
        let Guest { mebibytes, kernel } = guest;
        let bed = Bed::get();
        let at = |what: &str| dir.join(format!("{name}.{what}"));
        let disk = dir.join("disk");
        if !disk.exists() {
            File::create(&disk).and_then(|file| file.set_len(16 << 20)).expect("a disk");
        }
        let mut command = qemu.command();
        command.args(machine.words()).args(["-accel", "tcg", "-cpu", "qemu64", "-smp", "1", "-m"]);
        command.arg(format!("{mebibytes}M"));
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        let memory = at("memory");
        let memory = format!("size={mebibytes}M,share=on,mem-path={}", memory.display());
        command.args(["-object", &format!("memory-backend-file,id=mem,{memory}")]);
        command.args([
            "-drive",
            &format!("id=disk,if=none,format=raw,file={},file.locking=off", disk.display()),
        ]);
        let net = if machine == Machine::Q35 { "hubport,id=net,hubid=0" } else { "user,id=net" };
        command.args(["-netdev", net, "-chardev", "null,id=console"]);
        for device in machine.devices() {
            command.args(["-device", device]);
        }
        command.args(["-serial", &format!("file:{}", at("serial").display())]);
        for monitor in ["qmp", "monitor"] {
            command.args(["-qmp", &format!("unix:{},server=on,wait=off", at(monitor).display())]);
        }
        command.arg("-kernel").arg(&bed.kernel).arg("-initrd").arg(&bed.initramfs);
        // A microvm has nothing to calibrate its clock by; that the clock is right is nothing to these tests.
        let clock = if machine == Machine::Microvm { "tsc_early_khz=2000000" } else { "notsc" };
        command.args(["-append", &format!("console=ttyS0 quiet {clock} {kernel} rdinit=/init")]);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(at("stderr")).expect("a file"));
        let child = command.spawn().expect("QEMU starts");
        let mut qmp = Qmp::connect(&at("qmp"), at("stderr"));
        qmp.ask("migrate-set-parameters", json!({ "max-bandwidth": 4_000_000_000u64 }));
        Self { child, dir: dir.into(), qmp, name: name.into(), mebibytes }
    }

    fn at(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{}.{what}", self.name))
    }

    /// The socket of a second monitor, for what is tested.
    pub(crate) fn monitor(&self) -> PathBuf {
        self.at("monitor")
    }

    /// Guest memory as it is.
    pub(crate) fn memory(&self) -> Vec<u8> {
        let memory = fs::read(self.at("memory")).expect("memory is a file");
        assert_eq!(memory.len() as u64, self.mebibytes << 20);
        memory
    }

    fn serial(&self) -> String {
        let text = fs::read(self.at("serial")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The count of the last whole tick, and the checksum with it.
    pub(crate) fn tick(&self) -> Option<(u64, String)> {
        let text = self.serial();
        let whole = text.rsplit_once('\n')?.0;
        let last = whole.lines().rfind(|line| line.starts_with("tick "))?;
        let mut words = last.split_whitespace().skip(1);
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    }

    /// Waits for a tick after `count`.
    pub(crate) fn ticks_past(&self, count: u64) -> (u64, String) {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            if let Some(tick) = self.tick().filter(|tick| tick.0 > count) {
                return tick;
            }
            let stderr = fs::read_to_string(self.at("stderr")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{}: {}\n{stderr}", self.name, self.serial());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts a migration and waits for its end.
    pub(crate) fn migrate(&mut self, uri: &str) {
        self.qmp.ask("migrate", json!({ "uri": uri }));
        self.wait_migrated();
    }

    pub(crate) fn wait_migrated(&mut self) {
        self.wait_for("query-migrate", "completed", "failed");
    }

    /// Waits for a run state.
    pub(crate) fn wait_status(&mut self, wanted: &str) {
        self.wait_for("query-status", wanted, "internal-error");
    }

    fn wait_for(&mut self, command: &str, wanted: &str, never: &str) {
        self.wait_until(command, |answer| {
            let status = answer.get("status").and_then(Value::as_str).unwrap_or_default();
            assert_ne!(status, never, "{answer}");
            status == wanted
        });
    }

    /// Waits for an answer of this kind.
    pub(crate) fn wait_until(&mut self, command: &str, is_it: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let answer = self.qmp.ask(command, json!({}));
            if is_it(&answer) {
                return;
            }
            let stderr = fs::read_to_string(self.at("stderr")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{}: {answer}\n{stderr}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
