//! A real guest under QEMU's emulation, with busybox as its init.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bandsox_image::base::{Limits, prepare};
use bandsox_image::kernel::{BOOT_ARGUMENTS, Force, Kernel, Source, install};
use bandsox_image::overlay;
use tempfile::TempDir;

use crate::artifacts::kernel_deb;
use crate::base::plant;
use crate::layers::eventful;

/// How long a guest may take on a very busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

/// A store with a kernel whose `/init` is `script`, and an initramfs that adds busybox and `programs` to it.
pub(crate) struct Bench {
    dir: TempDir,
    kernel: Kernel,
    initramfs: PathBuf,
}

impl Bench {
    pub(crate) fn new(script: &str, programs: &[&Path]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let init = format!("#!/bin/busybox sh\n{LOAD}{script}");
        let deb = Source::Deb { file: kernel_deb() };
        let kernel =
            install(dir.path(), &deb, Force::No, init.as_bytes()).expect("installs").kernel;
        let extra = dir.path().join("extra");
        fs::create_dir_all(extra.join("bin")).expect("creates");
        fs::copy("/bin/busybox", extra.join("bin/busybox")).expect("busybox-static is installed");
        for program in programs {
            fs::copy(program, extra.join("bin").join(program.file_name().expect("a name")))
                .expect("copies");
        }
        let mut bytes = fs::read(&kernel.initramfs).expect("reads");
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(cpio_of(&extra));
        let initramfs = dir.path().join("initramfs");
        fs::write(&initramfs, bytes).expect("writes");
        Self { dir, kernel, initramfs }
    }

    /// Boots with these disks (path, whether it may be written) and returns what the guest printed until it powered off.
    pub(crate) fn boot(&self, disks: &[(&Path, bool)]) -> String {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"])
            .args(["-machine", "pc-q35-7.2,sata=off,smbus=off", "-accel", "tcg,thread=multi"])
            .args(["-cpu", "max,-erms,-fsrm", "-m", "512", "-serial", "stdio"])
            .arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 {BOOT_ARGUMENTS}"))
            .arg("-kernel")
            .arg(&self.kernel.kernel)
            .arg("-initrd")
            .arg(&self.initramfs);
        for (number, (path, is_writable)) in disks.iter().enumerate() {
            let readonly = if *is_writable { "off" } else { "on" };
            let path = path.display();
            qemu.arg("-drive")
                .arg(format!("if=none,id=d{number},format=raw,readonly={readonly},file={path}"));
            qemu.arg("-device").arg(format!("virtio-blk-pci,drive=d{number}"));
        }
        let mut child =
            qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("QEMU runs");
        let mut stdout = child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            stdout.read_to_end(&mut said).map(|_| String::from_utf8_lossy(&said).into_owned())
        });
        let start = Instant::now();
        while child.try_wait().expect("waits").is_none() {
            if start.elapsed() > DEADLINE {
                child.kill().expect("kills");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        reader.join().expect("reads").expect("reads")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Loads every module in the order of the list, as the agent does.
const LOAD: &str = r#"
/bin/busybox mkdir -p /proc /sys /dev /mnt /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for file in $(sed 's/},{/}\n{/g' /etc/bandsox/modules.json | sed 's/.*"file":"\([^"]*\)".*/\1/'); do
    insmod "$file" || echo "FAILED $file"
done
"#;

/// An archive of everything below `dir`, made by the real program.
fn cpio_of(dir: &Path) -> Vec<u8> {
    let list = Command::new("find")
        .args([".", "-mindepth", "1"])
        .current_dir(dir)
        .output()
        .expect("find runs")
        .stdout;
    let mut cpio = Command::new("cpio")
        .args(["-o", "-H", "newc", "--quiet"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cpio runs");
    cpio.stdin.take().expect("piped").write_all(&list).expect("cpio reads");
    cpio.wait_with_output().expect("cpio ends").stdout
}

/// What the guest's script printed after `RESULT`.
fn result(said: &str) -> &str {
    // The firmware leaves the cursor where it is, so a line need not begin with it.
    let (_, rest) = said.split_once("RESULT ").unwrap_or_else(|| panic!("the guest said: {said}"));
    rest.lines().next().unwrap_or_default().trim()
}

/// Compiles the program that describes a tree, static.
fn describer(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/describe.rs");
    let program = dir.join("describe");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args([
            "--edition=2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-o",
        ])
        .arg(&program)
        .arg(source)
        .status()
        .expect("rustc runs");
    assert!(status.success());
    program
}

/// Asserts that a guest finds in `image` what is in the directory that `prepared` gives besides, in every respect.
fn assert_a_guest_sees(prepared: impl FnOnce(&Bench) -> (PathBuf, PathBuf)) {
    let tools = TempDir::new().expect("a temporary directory");
    let describe = describer(tools.path());
    let bench = Bench::new(
        r"
mount -t erofs -o ro /dev/vda /mnt && describe /mnt > /tmp/description
echo RESULT $(wc -c < /tmp/description)
cat /tmp/description > /dev/vdb
sync
poweroff -f
",
        &[&describe],
    );
    let (image, root) = prepared(&bench);
    let results = bench.path("results");
    File::create(&results).expect("creates").set_len(16 << 20).expect("grows");

    let said = bench.boot(&[(&image, false), (&results, true)]);

    let length: usize = result(&said).parse().expect("a number");
    let found = String::from_utf8_lossy(&fs::read(&results).expect("reads")[..length]).into_owned();
    let want = Command::new(&describe).arg(&root).output().expect("describes").stdout;
    let want = String::from_utf8_lossy(&want).into_owned();
    for (found, want) in found.lines().zip(want.lines()) {
        assert_eq!(found, want);
    }
    assert_eq!(found.lines().count(), want.lines().count());
}

#[test]
fn a_guest_sees_exactly_what_the_directory_held() {
    assert_a_guest_sees(|bench| {
        let root = bench.path("root");
        plant(&root);
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmods");
        let images = bench.path("images");
        fs::create_dir(&images).expect("creates");
        let base = prepare(&root, &images, &Limits::default()).expect("prepares");
        (base.path, root)
    });
}

#[test]
fn a_guest_sees_of_a_directory_s_layers_exactly_what_it_holds_in_the_end() {
    let history = eventful();

    assert_a_guest_sees(|_| {
        (history.build("eventful", &history.layers).path, history.root.clone())
    });
}

#[test]
fn a_guest_writes_to_an_overlay_above_an_image_and_leaves_it_clean() {
    let bench = Bench::new(
        r"
mkdir -p /base /rw /root
mount -t erofs -o ro /dev/vda /base
mount -t ext4 /dev/vdb /rw
mkdir -p /rw/upper /rw/work
mount -t overlay -o lowerdir=/base,upperdir=/rw/upper,workdir=/rw/work overlay /root
echo changed >> /root/size-1
rm /root/size-2047
echo new > /root/new
echo RESULT size-1 $(wc -c < /root/size-1) new $(cat /root/new) removed $(ls /root/size-2047 2>/dev/null | wc -l)
dmesg | grep -i -E 'erofs|ext4|overlay' | grep -i -E 'error|corrupt|warn' | sed 's/^/COMPLAINT /'
umount /root /rw /base
poweroff -f
",
        &[],
    );
    let root = bench.path("root");
    plant(&root);
    let images = bench.path("images");
    fs::create_dir(&images).expect("creates");
    let base = prepare(&root, &images, &Limits::default()).expect("prepares");
    let disk = bench.path("disk.ext4");
    overlay::create(&disk, 512, bench.dir.path()).expect("creates");

    let said = bench.boot(&[(&base.path, false), (&disk, true)]);

    assert_eq!(result(&said), "size-1 9 new new removed 0");
    assert!(!said.contains("COMPLAINT"), "{said}");
    let check =
        Command::new("/usr/sbin/e2fsck").arg("-fn").arg(&disk).output().expect("e2fsck runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    assert!(base.verify_unchanged(&base.identity).is_ok());
}
