//! A guest on either device, with nothing in it but the program that the vsock tests use.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use bandsox_e2e::{Bed, connect, eventually, workspace_root};
use bandsox_engine::Accelerator;
use bandsox_image::kernel::{self, BOOT_ARGUMENTS, Force, Kernel, Source};
use bandsox_qemu::cpu_model;

use super::device::{self, Kind};
use crate::step;

/// Where the program listens.
const PORT: u32 = 1000;

/// A running guest and its device.
pub(super) struct Guest {
    dir: tempfile::TempDir,
    device: Child,
    qemu: Child,
}

impl Guest {
    pub(super) fn boot(kernel: &Kernel, kind: Kind, cid: u32) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut device = device::start(kind, cid, dir.path())?;
        let socket = dir.path().join("vhost-user");
        eventually("the device listens", || socket.exists().then_some(()));
        let qemu = match qemu(kernel, dir.path()) {
            Ok(qemu) => qemu,
            Err(error) => {
                device.kill().and_then(|()| device.wait()).ok();
                return Err(error);
            }
        };
        let guest = Self { dir, device, qemu };
        eventually("the guest answers", || {
            guest.ask("interrupts").ok().filter(|it| !it.is_empty())
        });
        Ok(guest)
    }

    /// A connection that has sent its first line.
    pub(super) fn say(&self, line: &str) -> Result<UnixStream> {
        let mut socket = connect(self.dir.path(), PORT)?;
        socket.write_all(format!("{line}\n").as_bytes())?;
        Ok(socket)
    }

    fn ask(&self, line: &str) -> Result<String> {
        let mut answer = String::new();
        self.say(line)?.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Kicks and interrupts of the guest's virtio devices so far. Kicks are counted from the first call on.
    pub(super) fn notifications(&self) -> Result<f64> {
        let kicks = self.ask("kicks")?;
        let kicks = kicks.split_whitespace().nth(1).context("the guest counts no kicks")?;
        let interrupts = self.ask("interrupts")?;
        let of_virtio = interrupts.lines().filter(|line| line.contains("virtio"));
        let counts = of_virtio.flat_map(|line| line.split_whitespace().skip(1));
        let interrupts: f64 = counts.filter_map(|word| word.parse::<f64>().ok()).sum();
        Ok(kicks.parse::<f64>()? + interrupts)
    }

    /// Processor time of the device's process so far.
    pub(super) fn device_cpu_seconds(&self) -> Result<f64> {
        device::cpu_seconds(&self.device)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        for child in [&mut self.qemu, &mut self.device] {
            child.kill().and_then(|()| child.wait()).ok();
        }
    }
}

/// The same machine and CPU flags for both devices, and those that BandSox itself uses.
fn qemu(kernel: &Kernel, dir: &Path) -> Result<Child> {
    let shown = |path: &Path| path.display().to_string();
    Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "pc-q35-7.2,sata=off,smbus=off,usb=off,memory-backend=ram"])
        .args(["-accel", "tcg,thread=multi", "-cpu", &cpu_model(Accelerator::Tcg), "-m", "256M"])
        .args(["-object", "memory-backend-memfd,id=ram,size=256M,share=on"])
        .args(["-kernel", &shown(&kernel.kernel), "-initrd", &shown(&kernel.initramfs)])
        .args(["-append", &format!("console=ttyS0 quiet panic=-1 {BOOT_ARGUMENTS}")])
        .args(["-serial", &format!("file:{}", shown(&dir.join("console")))])
        .args(["-device", "pcie-root-port,id=rp0,chassis=1"])
        .args(["-chardev", &format!("socket,id=vsock-0,path={}", shown(&dir.join("vhost-user")))])
        .args(["-device", "vhost-user-vsock-pci,bus=rp0,chardev=vsock-0"])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64")
}

/// The bed's kernel, with the vsock tests' program as `/init`.
pub(super) fn kernel(bed: &Bed) -> Result<Kernel> {
    let store = device::target_dir().join("testbed/vsock");
    fs::create_dir_all(&store)?;
    let program = store.join("init");
    step::run(
        Command::new("rustc")
            .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static"])
            .args(["-C", "panic=abort", "-C", "strip=symbols", "-o"])
            .arg(&program)
            .arg(workspace_root().join("crates/qemu/tests/guest/init.rs")),
    )?;
    let source = Source::Deb { file: bed.kernel_deb.clone() };
    Ok(kernel::install(&store, &source, Force::No, &fs::read(&program)?)?.kernel)
}
