//! A guest to test with: Debian's kernel and busybox, told by the kernel command line what to do.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bandsox_engine::{
    Accelerator, Disk, EngineEvent, EngineExit, GuestRam, Launcher, MachineSpec, SealReport,
    SerialLink,
};
use bandsox_image::kernel::{self, Force, Kernel, Source};
use bandsox_jail::{Helper, Jail, NoJail};
use bandsox_qemu::{QemuEngine, QemuInstall, StartError, launch};

/// Longer than anything takes on a busy machine; only a hang waits so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The script that is process 1: mounts, loads the modules that `modules.json` names, says
/// READY, and does what `test=` asks for.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for word in $(/bin/busybox cat /proc/cmdline); do
    case $word in test=*) what=${word#test=} ;; esac
done
case $what in
    bare*) ;;
    *)
        for file in $(/bin/busybox sed 's/},{/}\n{/g' /etc/bandsox/modules.json |
            /bin/busybox sed -n 's/.*"file":"\([^"]*\)".*/\1/p'); do
            case $file in /*) ;; *) file=/lib/modules/$(/bin/busybox uname -r)/$file ;; esac
            /bin/busybox insmod $file || echo "INSMOD FAILED $file"
        done ;;
esac
echo READY
case $what in
    *poweroff) /bin/busybox poweroff -f ;;
    *reboot) /bin/busybox reboot -f ;;
    *panic) echo c > /proc/sysrq-trigger ;;
    disks)
        echo "BASE $(/bin/busybox head -c 4 /dev/vda)"
        echo over > /dev/vdb; /bin/busybox sync
        (echo no > /dev/vda) 2>/dev/null && /bin/busybox sync
        echo "BASE $(/bin/busybox head -c 4 /dev/vda) RO $(/bin/busybox cat /sys/block/vda/ro)"
        echo "SERIALS $(/bin/busybox cat /sys/block/vda/serial) $(/bin/busybox cat /sys/block/vdb/serial)"
        echo "PORT $(/bin/busybox cat /sys/class/virtio-ports/*/name)"
        echo "DONE" ;;
esac
i=0
while true; do
    [ "$what" = hotplug ] && echo "VSOCK" $(/bin/busybox ls /sys/bus/virtio/drivers/vmw_vsock_virtio_transport | /bin/busybox grep -c virtio)
    echo "TICK $i $(/bin/busybox date +%s)"; i=$((i+1)); /bin/busybox sleep 1
done
"#;

/// Kernel and initramfs, made once for all tests, readable for every user.
fn boot_files() -> (PathBuf, PathBuf) {
    let folder = match std::env::var_os("BANDSOX_TEST_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guest"),
    };
    let ready = |folder: &Path| Kernel::load(folder).ok().map(|kernel| kernel.kernel);
    // Another script is another archive.
    let initrd = folder.join(format!("test-initramfs-{}.cpio", fingerprint(INIT.as_bytes())));
    if let Some(kernel) = ready(&folder).filter(|_| initrd.exists()) {
        return (kernel, initrd);
    }
    fs::create_dir_all(&folder).expect("the build folder is writable");
    let deb = std::env::var_os("BANDSOX_TEST_KERNEL_DEB")
        .expect("BANDSOX_TEST_KERNEL_DEB names Debian's package of a cloud kernel");
    let source = Source::Deb { file: deb.into() };
    kernel::install(&folder, &source, Force::No, b"").expect("the package is whole");
    let made = Kernel::load(&folder).expect("it was installed just now");
    // The kernel takes one archive after another; a later file replaces an earlier one.
    let mut archive = fs::read(&made.initramfs).expect("it was installed just now");
    archive.resize(archive.len().next_multiple_of(4), 0);
    cpio(&mut archive, "bin", 0o040_755, b"");
    for empty in ["proc", "sys", "dev"] {
        cpio(&mut archive, empty, 0o040_755, b"");
    }
    cpio(
        &mut archive,
        "bin/busybox",
        0o100_755,
        &fs::read("/bin/busybox").expect("busybox-static"),
    );
    cpio(&mut archive, "init", 0o100_755, INIT.as_bytes());
    cpio(&mut archive, "TRAILER!!!", 0, b"");
    let temporary = folder.join(format!("test-initramfs.{}", std::process::id()));
    fs::write(&temporary, archive).expect("the build folder is writable");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).expect("it is ours");
    fs::rename(&temporary, &initrd).expect("the build folder is writable");
    (made.kernel, initrd)
}

/// Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst (newc).
fn cpio(archive: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    let fields = [1, mode, 0, 0, 1, 0, length(data), 0, 0, 0, 0, length(name.as_bytes()) + 1, 0];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u64, &byte| sum.rotate_left(5) ^ u64::from(byte))
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("nothing here is that large")
}

/// The program that is launcher and probe.
pub(crate) fn helper(argument: &str) -> Helper {
    let program = std::env::var_os("BANDSOX_TEST_HELPER")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_jail_helper")), PathBuf::from);
    Helper { program, args: vec![argument.into()] }
}

/// A jail whose user nobody else has.
pub(crate) fn jail() -> Jail {
    let cid = 0x8000 | (std::process::id() & 0x7fff);
    Jail::new(&format!("test-{cid}"), cid).with_helper(helper("__jail"))
}

/// No jail.
pub(crate) fn no_jail() -> NoJail {
    NoJail::with_helper(helper("__jail"))
}

/// A started machine and everything that is heard of it.
pub(crate) struct Guest {
    pub(crate) engine: QemuEngine,
    pub(crate) events: Receiver<EngineEvent>,
    pub(crate) console: Console,
    pub(crate) sealed: SealReport,
    /// Holds the disks.
    pub(crate) folder: tempfile::TempDir,
    _lines: [UnixStream; 2],
}

impl Guest {
    /// Boots a guest that does `test`.
    pub(crate) fn boot(test: &str, launcher: &dyn Launcher) -> Self {
        let mut guest = Self::start(&Plan::new(test), launcher).expect("QEMU starts");
        bandsox_engine::Engine::boot(&mut guest.engine).expect("QEMU takes commands");
        guest
    }

    /// Starts a machine; its virtual CPUs stand still.
    pub(crate) fn start(plan: &Plan, launcher: &dyn Launcher) -> Result<Self, StartError> {
        Self::start_and(plan, launcher, || ())
    }

    /// Starts a machine, doing something between its two steps.
    pub(crate) fn start_and(
        plan: &Plan,
        launcher: &dyn Launcher,
        between: impl FnOnce(),
    ) -> Result<Self, StartError> {
        let (machine, console, lines, folder) = plan.machine();
        let other = std::env::var_os("BANDSOX_TEST_QEMU").map(PathBuf::from);
        let install = QemuInstall::find(other.as_deref()).expect("QEMU is installed");
        let starting = launch(&install, machine, Accelerator::Tcg, launcher)?;
        between();
        let (sender, events) = channel();
        let (engine, sealed) = starting.connect(sender, DEADLINE)?;
        Ok(Self {
            engine,
            events,
            console: Console::listen(console),
            sealed,
            folder,
            _lines: lines,
        })
    }

    /// Everything that happens until the process is gone, and how it went.
    pub(crate) fn until_gone(&self) -> (Vec<EngineEvent>, EngineExit) {
        let mut seen = Vec::new();
        loop {
            let event = self.next_event();
            if let EngineEvent::Exited(exit) = event {
                return (seen, exit);
            }
            seen.push(event);
        }
    }

    /// Waits for one event.
    pub(crate) fn next_event(&self) -> EngineEvent {
        self.events.recv_timeout(DEADLINE).expect("something happens in time")
    }
}

/// What to start.
pub(crate) struct Plan {
    pub(crate) test: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    /// The vsock device's end for QEMU; taken by the first start.
    pub(crate) vsock: Cell<Option<OwnedFd>>,
}

impl Plan {
    pub(crate) fn new(test: &str) -> Self {
        let (kernel, initrd) = boot_files();
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { test: test.to_owned(), folder, kernel, initrd, vsock: Cell::new(None) }
    }

    fn machine(&self) -> (MachineSpec, UnixStream, [UnixStream; 2], tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("base"), vec![b'B'; 1 << 20]).expect("room for a disk");
        let overlay = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join("overlay"))
            .expect("room for a disk");
        overlay.set_len(1 << 20).expect("room for a disk");
        let pair = || UnixStream::pair().expect("socket pairs can be made");
        let ((console, console_theirs), (port, port_theirs), (uart, uart_theirs)) =
            (pair(), pair(), pair());
        let machine = MachineSpec {
            vcpus: 1,
            ram: GuestRam::new(256).expect("memory"),
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            cmdline: format!("console=ttyS0 panic=-1 test={}", self.test),
            base: Disk { file: File::open(folder.path().join("base")).expect("it was made above") },
            overlay: Disk { file: overlay },
            console: console_theirs.into(),
            serial: SerialLink { port: port_theirs.into(), uart: uart_theirs.into() },
            vsock: self.vsock.take(),
        };
        (machine, console, [port, uart], folder)
    }
}

/// What the guest printed. Written by the reading thread, looked at by the test.
pub(crate) struct Console {
    text: Arc<Mutex<String>>,
}

impl Console {
    fn listen(mut stream: UnixStream) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&text);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                let heard = String::from_utf8_lossy(&chunk[..count]);
                written.lock().expect("no thread panics with it").push_str(&heard);
            }
        });
        Self { text }
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.text.lock().expect("no thread panics with it").clone()
    }

    /// Waits until the guest has printed `what`, after the first `after` bytes.
    pub(crate) fn wait_for(&self, what: &str, after: usize) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let text = self.text();
            if text.get(after..).is_some_and(|rest| rest.contains(what)) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {what:?} in time; the console says:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
