//! A guest that loads the virtio drivers, uses its devices once, and then counts aloud.

use std::fs;
use std::path::{Path, PathBuf};

/// In the order in which they can be loaded; those that are built in are not there.
const MODULES: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "rng-core",
    "virtio-rng",
    "virtio_console",
    "virtio_balloon",
];

/// The counter goes on where it was, and with it stands a checksum of what lies in memory. `held` and `busy` are of the
/// kernel's command line: how many MiB more it holds, and whether there are always pages that have changed.
const INIT: &str = "#!/bin/sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module.ko; done
/bin/busybox dd if=/dev/vda of=/dev/null bs=4096 count=64
/bin/busybox ip link set eth0 up
/bin/busybox dd if=/dev/urandom of=/tmp/held bs=65536 count=64
number=0
while [ $number -lt ${held:-0} ]; do
    number=$((number + 4))
    /bin/busybox cat /tmp/held >>/tmp/more
done
echo guest is up >/dev/ttyS0
if [ \"$busy\" ]; then
    while :; do number=$((number + 1)); /bin/busybox printf %065536d $number >/tmp/busy; done &
fi
count=0
while :; do
    count=$((count + 1))
    sum=$(/bin/busybox md5sum </tmp/held)
    echo tick $count $sum >/dev/ttyS0
    /bin/busybox sleep 0.2
done
";

/// The archive, as this file says: each process of tests makes it anew, in milliseconds, so that none runs an old one.
pub(super) fn make(dir: &Path, kernel: &Path) -> PathBuf {
    let path = dir.join("stream-initramfs.cpio");
    let mut archive = Archive::default();
    for name in ["bin", "modules", "dev"] {
        archive.add(name, 0o040_755, &[]);
    }
    archive.add("init", 0o100_755, INIT.as_bytes());
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    archive.add("bin/busybox", 0o100_755, &busybox);
    archive.add("bin/sh", 0o120_777, b"busybox");
    let mut order = String::new();
    let modules = modules(kernel);
    for name in MODULES {
        let file = format!("{name}.ko");
        if let Some(module) = modules.iter().find(|path| path.ends_with(&file)) {
            archive.add(
                &format!("modules/{file}"),
                0o100_644,
                &fs::read(module).expect("a module"),
            );
            order.push_str(name);
            order.push('\n');
        }
    }
    archive.add("modules/order", 0o100_644, order.as_bytes());
    archive.add("TRAILER!!!", 0, &[]);
    let draft = dir.join(format!("stream-initramfs.{}", std::process::id()));
    fs::write(&draft, archive.bytes).expect("the archive can be written");
    fs::rename(&draft, &path).expect("it can be renamed");
    path
}

fn modules(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root.join("lib/modules")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("a directory").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() { dirs.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

/// Source: Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: usize,
}

impl Archive {
    fn add(&mut self, name: &str, mode: usize, data: &[u8]) {
        self.inode += 1;
        self.bytes.extend(b"070701");
        let size = data.len();
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() + 1, 0];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
