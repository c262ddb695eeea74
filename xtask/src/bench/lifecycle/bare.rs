//! A VM's twin without BandSox: the same machine, booted by a script.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bandsox_e2e::{Bed, Run, Storage, Vm};
use serde_json::Value;

/// What the script prints when it is where the agent would answer.
const READY: &str = "the-script-is-ready";

/// The twin of a VM: its engine's command line with descriptors replaced by files, and an initramfs of the same
/// modules with a script for an init.
pub(super) struct Bare {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Bare {
    /// The twin of `vm`, which runs.
    pub(super) fn like(vm: &Vm<'_>, storage: &Storage) -> Result<Self> {
        let engine = vm.engine();
        let words: Vec<String> =
            engine.args.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let overlay = storage.scratch("bare-overlay");
        fs::copy(storage.root().join(format!("disks/{}.ext4", vm.id)), &overlay)?;
        let files = Files {
            kernel: storage.root().join("kernel/vmlinux"),
            initrd: initramfs(storage)?,
            disks: [Bed::get().ext4(), overlay],
        };
        let program = crate::setup::find("qemu-system-x86_64").context("QEMU is installed")?;
        Ok(Self { program, arguments: rewired(&words, &files)? })
    }

    /// Boots it until the script prints its line, in seconds; then kills it.
    pub(super) fn boot(&self) -> Result<f64> {
        let start = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn()?;
        let console = child.stdout.take().context("it was asked to be a pipe")?;
        let mut lines = BufReader::new(console).split(b'\n');
        let is_ready = |line: &[u8]| String::from_utf8_lossy(line).contains(READY);
        let ready = lines.any(|line| line.is_ok_and(|line| is_ready(&line)));
        let took = start.elapsed().as_secs_f64();
        child.kill()?;
        child.wait()?;
        ensure!(ready, "the script never printed its line");
        Ok(took)
    }
}

struct Files {
    kernel: PathBuf,
    initrd: PathBuf,
    disks: [PathBuf; 2],
}

/// The engine's words with each inherited descriptor replaced, and without those that only a monitor needs.
fn rewired(words: &[String], files: &Files) -> Result<Vec<OsString>> {
    let mut rest = words.iter().skip(1).peekable();
    let mut line: Vec<OsString> = Vec::new();
    while let Some(option) = rest.next() {
        let value = rest.next_if(|word| !word.starts_with('-'));
        if let Some(value) = rewired_value(option, value.map(String::as_str), files)? {
            line.push(option.into());
            line.extend(value);
        }
    }
    Ok(line)
}

/// The value that stands after `option` now; `None` if the option goes.
fn rewired_value(
    option: &str,
    value: Option<&str>,
    files: &Files,
) -> Result<Option<Option<OsString>>> {
    let Some(value) = value else {
        // Nothing waits for a monitor's word here.
        return Ok((option != "-S").then_some(None));
    };
    let keep = |text: &str| Some(Some(OsString::from(text)));
    Ok(match option {
        "-kernel" => Some(Some(files.kernel.clone().into())),
        "-initrd" => Some(Some(files.initrd.clone().into())),
        "-add-fd" | "-mon" | "-L" => None,
        "-object" => {
            keep(&without(value, "mem-path").replace("memory-backend-file", "memory-backend-memfd"))
        }
        "-chardev" => match field(value, "id").context("a chardev has an id")? {
            "qmp" | "vsock-0" => None,
            "console" => keep("stdio,id=console,signal=off"),
            other => keep(&format!("null,id={other}")),
        },
        "-device" if value.starts_with("vhost-user-vsock") => None,
        "-blockdev" => {
            let disk = match field(value, "filename") {
                Some("/dev/fdset/1") => &files.disks[0],
                Some("/dev/fdset/2") => &files.disks[1],
                Some(_) | None => return Ok(keep(value)),
            };
            keep(&format!("{},filename={}", without(value, "filename"), disk.display()))
        }
        _ => keep(value),
    })
}

/// The value of `key=…` in a list of options.
fn field<'a>(options: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = options.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn without(options: &str, key: &str) -> String {
    let kept = options.split(',').filter(|pair| pair.split('=').next() != Some(key));
    kept.collect::<Vec<_>>().join(",")
}

/// BandSox's own initramfs with busybox and a script instead of the agent.
fn initramfs(storage: &Storage) -> Result<PathBuf> {
    let tree = storage.scratch("bare-initramfs");
    fs::create_dir_all(&tree)?;
    let original = fs::read(storage.root().join("kernel/initramfs.cpio"))?;
    Run::new("cpio").args(["-i", "-d", "--quiet"]).current_dir(&tree).stdin(original).ok();
    let list: Value = serde_json::from_slice(&fs::read(tree.join("etc/bandsox/modules.json"))?)?;
    let modules = list.as_array().context("a list of modules")?;
    let files = modules.iter().filter_map(|module| module["file"].as_str());
    for dir in ["bin", "dev", "proc", "sys", "base", "over", "root"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::copy(Bed::get().rootfs.join("bin/busybox"), tree.join("bin/busybox"))?;
    fs::remove_file(tree.join("init"))?;
    fs::write(tree.join("init"), script(files))?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    pack(&tree)
}

fn script<'a>(modules: impl Iterator<Item = &'a str>) -> String {
    let load: String = modules.map(|file| format!("$b insmod {file}\n")).collect();
    format!(
        "#!/bin/busybox sh\nb=/bin/busybox\n\
         $b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc; $b mount -t sysfs sys /sys\n\
         {load}\
         $b mount -t ext4 -o ro,noload /dev/vda /base; $b mount -t ext4 /dev/vdb /over\n\
         $b mkdir -p /over/upper /over/work\n\
         $b mount -t overlay -o lowerdir=/base,upperdir=/over/upper,workdir=/over/work root /root\n\
         for m in dev proc sys; do $b mount --move /$m /root/$m; done\n\
         exec $b chroot /root /bin/sh -c 'echo {READY} > /dev/console; sleep 1000'\n"
    )
}

fn pack(tree: &Path) -> Result<PathBuf> {
    let packed = tree.with_extension("cpio");
    let names = Run::new("find").arg(".").current_dir(tree).output().ok().stdout;
    let archive = Run::new("cpio")
        .args(["-o", "-H", "newc", "--quiet"])
        .current_dir(tree)
        .stdin(names)
        .output();
    fs::write(&packed, archive.ok().stdout)?;
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_become_files_and_the_monitors_wires_go() {
        let line = "qemu -nodefaults -S -mon chardev=qmp,mode=control -chardev socket,id=console,fd=7 \
                    -blockdev driver=file,filename=/dev/fdset/1,locking=off -add-fd fd=5,set=1 -kernel /k";
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let files = Files {
            kernel: "/vmlinux".into(),
            initrd: "/i".into(),
            disks: ["/a".into(), "/b".into()],
        };

        let rewired = rewired(&words, &files).expect("every chardev has an id");

        let shown: Vec<_> = rewired.iter().map(|word| word.to_string_lossy()).collect();
        let want = "-nodefaults -chardev stdio,id=console,signal=off \
                    -blockdev driver=file,locking=off,filename=/a -kernel /vmlinux";
        assert_eq!(shown.join(" "), want);
    }
}
