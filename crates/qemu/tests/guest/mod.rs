//! A real guest: Debian's kernel under QEMU with software translation, and `init.rs` as its only program.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bandsox_engine::GuestRam;
use bandsox_image::kernel::{BOOT_ARGUMENTS, Force, Kernel, Source, install};
use bandsox_qemu::vhost_user::{Front, FrontEvent};
use bandsox_vsock::{ConnectError, Handle, Stream};
use serde_json::{Value, json};

/// No test waits longer than this for what must happen. A translated guest on a busy machine is slow.
pub(crate) const GENEROUS: Duration = Duration::from_secs(120);

/// Where the guest listens.
pub(crate) const PORT: u32 = 1000;

/// A running guest with a vsock device.
pub(crate) struct Machine {
    pub(crate) device: Handle,
    pub(crate) events: Receiver<FrontEvent>,
    front: Option<Front>,
    qemu: Child,
    to_qemu: ChildStdin,
    from_qemu: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
}

impl Machine {
    /// Boots a guest whose address is `cid`, with a device that may have had other guests before.
    pub(crate) fn boot(device: Handle, cid: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let kernel = kernel();
        let ram = GuestRam::new(256).expect("memory");
        // The child gets it under the same number.
        rustix::io::fcntl_setfd(&ram, rustix::io::FdFlags::empty()).expect("inherited");
        let ram_path = format!("/proc/self/fd/{}", ram.as_fd().as_raw_fd());
        let socket = dir.path().join("vhost-user-0");
        let listener = UnixListener::bind(&socket).expect("bound");
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "pc-q35-7.2,sata=off,smbus=off,usb=off,memory-backend=ram"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "Nehalem-v1", "-m", "256M"])
            .arg("-object")
            .arg(format!("memory-backend-file,id=ram,size=256M,share=on,mem-path={ram_path}"))
            .arg("-kernel")
            .arg(&kernel.kernel)
            .arg("-initrd")
            .arg(&kernel.initramfs)
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 {BOOT_ARGUMENTS}")])
            .arg("-serial")
            .arg(format!("file:{}", dir.path().join("console").display()))
            .args(["-device", "pcie-root-port,id=rp0,chassis=1", "-qmp", "stdio"])
            .arg("-chardev")
            .arg(format!("socket,id=vsock-0,path={}", socket.display()))
            .args(["-device", "vhost-user-vsock-pci,id=vsock,bus=rp0,chardev=vsock-0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 is installed");
        let to_qemu = qemu.stdin.take().expect("it was asked for");
        let from_qemu = BufReader::new(qemu.stdout.take().expect("it was asked for"));
        let (sender, events) = mpsc::channel();
        let (socket, _) = listener.accept().expect("QEMU connects");
        let front = Front::serve(socket, device.clone(), cid, move |event| {
            sender.send(event).ok();
        });
        let mut machine = Self {
            device,
            events,
            front: Some(front.expect("a front")),
            qemu,
            to_qemu,
            from_qemu,
            dir,
        };
        machine.qmp("qmp_capabilities", &json!({}));
        machine.wait_until_it_answers();
        machine
    }

    /// A connection to the guest that has sent its first line.
    pub(crate) fn say(&self, line: &str) -> Stream {
        say(&self.device, line)
    }

    /// What the guest answers to a line, to its end.
    pub(crate) fn ask(&self, line: &str) -> String {
        let mut answer = String::new();
        self.say(line).socket().read_to_string(&mut answer).expect("an answer");
        answer
    }

    pub(crate) fn wait_until_it_answers(&self) {
        let until = Instant::now() + GENEROUS;
        loop {
            match self.device.connect(PORT, until) {
                Ok(_) => return,
                // The kernel is up and the program is not.
                Err(ConnectError::Refused { .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("{error}; its console: {}", self.console()),
            }
        }
    }

    /// Runs a command of QEMU's monitor.
    pub(crate) fn qmp(&mut self, command: &str, arguments: &Value) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.to_qemu, "{request}").expect("QEMU reads");
        self.next_message(|message| message.get("return").or(message.get("error")).is_some())
    }

    /// Waits for an event of QEMU's.
    pub(crate) fn wait_for_event(&mut self, name: &str) {
        self.next_message(|message| message.get("event") == Some(&json!(name)));
    }

    fn next_message(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(
                self.from_qemu.read_line(&mut line).expect("QEMU speaks") > 0,
                "QEMU has ended"
            );
            let message = serde_json::from_str(&line).expect("JSON");
            if is_it(&message) {
                return message;
            }
        }
    }

    /// Takes the device out of the guest, and puts it in again with another address.
    pub(crate) fn replug(&mut self, cid: u32) {
        self.qmp("device_del", &json!({ "id": "vsock" }));
        self.wait_for_event("DEVICE_DELETED");
        self.qmp("chardev-remove", &json!({ "id": "vsock-0" }));
        drop(self.front.take());
        let socket = self.dir.path().join("vhost-user-1");
        let listener = UnixListener::bind(&socket).expect("bound");
        let place = json!({ "type": "unix", "data": { "path": socket } });
        let backend = json!({ "type": "socket", "data": { "addr": place, "server": false } });
        self.qmp("chardev-add", &json!({ "id": "vsock-1", "backend": backend }));
        let (socket, _) = listener.accept().expect("QEMU connects");
        let front = Front::serve(socket, self.device.clone(), cid, |_| ()).expect("a front");
        self.front = Some(front);
        let plugged = self.qmp(
            "device_add",
            &json!({ "driver": "vhost-user-vsock-pci", "id": "vsock", "bus": "rp0", "chardev": "vsock-1" }),
        );
        assert!(plugged.get("return").is_some(), "{plugged}");
    }

    /// Kills QEMU without a word.
    pub(crate) fn kill(&mut self) {
        self.qemu.kill().expect("killed");
        self.qemu.wait().expect("ended");
    }

    pub(crate) fn console(&self) -> String {
        fs::read_to_string(self.dir.path().join("console")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.qemu.kill().ok();
        self.qemu.wait().ok();
    }
}

/// A connection to the guest of `device` that has sent its first line.
pub(crate) fn say(device: &Handle, line: &str) -> Stream {
    let stream = device.connect(PORT, Instant::now() + GENEROUS).expect("the guest listens");
    stream.socket().set_read_timeout(Some(GENEROUS)).expect("set");
    writeln!(stream.socket(), "{line}").expect("written");
    stream
}

/// Reads to the end of a stream whose other half is not needed any more.
pub(crate) fn rest_of(mut socket: &UnixStream) -> Vec<u8> {
    socket.shutdown(Shutdown::Write).ok();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).expect("read to the end");
    all
}

/// The kernel and an initramfs with our `/init`, made by whichever test comes first.
fn kernel() -> Kernel {
    let init = fs::read(init_program()).expect("built");
    let store = scratch().join("kernel-store");
    fs::create_dir_all(&store).expect("made");
    let source = Source::Deb { file: kernel_package() };
    install(&store, &source, Force::No, &init).expect("a kernel for the guest").kernel
}

fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn kernel_package() -> PathBuf {
    if let Some(given) = env::var_os("BANDSOX_TEST_KERNEL_DEB") {
        return PathBuf::from(given);
    }
    let target = scratch();
    let places = [target.parent().unwrap_or(&target).join("testbed"), "/var/cache/bandsox".into()];
    let is_kernel = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("linux-image-") && name.ends_with(".deb")
    };
    let found = places.iter().flat_map(fs::read_dir).flatten().flatten();
    found
        .map(|entry| entry.path())
        .find(is_kernel)
        .expect("BANDSOX_TEST_KERNEL_DEB names a kernel package (cargo xtask test fetches one)")
}

/// `init.rs`, built by the compiler alone and static: it has no dependencies.
fn init_program() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/init.rs");
    let edition = fs::metadata(&source).and_then(|it| it.modified()).expect("the source is there");
    let age = edition.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let program = scratch().join(format!("guest-init-{age}"));
    if program.is_file() {
        return program;
    }
    let unfinished = scratch().join(format!("guest-init-{}", std::process::id()));
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(compiler)
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "panic=abort"])
        .args(["-C", "strip=symbols", "-o"])
        .arg(&unfinished)
        .arg(&source)
        .status()
        .expect("rustc runs");
    assert!(built.success(), "the guest's program does not compile");
    fs::rename(&unfinished, &program).expect("renamed");
    program
}
