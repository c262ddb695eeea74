//! `cargo xtask demo`: steps 3 and 4 of the migration guide, for real, on this machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bandsox_e2e::Bed;
use tempfile::TempDir;

use crate::setup::{self, Build, packages};
use crate::step::say;

/// What the guide uploads.
const GREETING: &str = "Hello, world!\n";
/// Large enough that a rate means something.
const LARGE_BYTES: usize = 64 << 20;

pub(crate) fn run() -> Result<()> {
    let bed = setup::ready(packages::RUN, Build::Release)?;
    let demo = Demo::new(&bed)?;
    let total = Instant::now();
    let walked = demo.walk(&bed);
    demo.clean_up();
    walked?;
    say(&format!("\nAll of it worked, in {}.", seconds(total.elapsed())));
    Ok(())
}

/// A storage directory and a working directory, both gone afterwards.
struct Demo {
    dir: TempDir,
    program: std::path::PathBuf,
}

impl Demo {
    fn new(bed: &Bed) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("bandsox-demo-").tempdir()?;
        let demo = Self { dir, program: bed.bandsox.clone() };
        say(&format!("\n$ export BANDSOX_STORAGE={}", demo.storage().display()));
        Ok(demo)
    }

    fn walk(&self, bed: &Bed) -> Result<()> {
        let (deb, image) = (bed.kernel_deb.to_string_lossy(), bed.ext4());
        let image = image.to_string_lossy();
        let vm = "my-new-vm";

        self.bandsox(&["init", "--kernel-deb", &deb])?;
        self.bandsox(&["create", &image, "--name", vm])?;
        self.bandsox(&["start", vm])?;

        self.write("test.txt", GREETING.as_bytes(), "echo \"Hello, world!\" > test.txt")?;
        self.bandsox(&["upload", vm, "test.txt", "/tmp/test.txt"])?;
        self.bandsox(&["download", vm, "/tmp/test.txt", "downloaded.txt"])?;
        self.same("test.txt", "downloaded.txt")?;

        let large: Vec<u8> =
            (0..LARGE_BYTES / 8).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        self.write("large.bin", &large, "head -c 64M /dev/urandom > large.bin")?;
        let up = self.bandsox(&["upload", vm, "large.bin", "/tmp/large.bin"])?;
        let down = self.bandsox(&["download", vm, "/tmp/large.bin", "large.copy"])?;
        self.same("large.bin", "large.copy")?;
        say(&format!("  64 MiB: up {} MB/s, down {} MB/s", rate(up), rate(down)));

        self.bandsox(&["exec", vm, "--", "uname", "-a"])?;
        self.bandsox(&["exec", vm, "--", "sh", "-c", "lsmod | grep vsock"])?;
        self.bandsox(&["list"])?;
        self.bandsox(&["stop", vm])?;
        self.bandsox(&["rm", vm])?;
        self.bandsox(&["list"])?;
        Ok(())
    }

    fn storage(&self) -> std::path::PathBuf {
        self.dir.path().join("storage")
    }

    /// Runs the program, its output to ours, and prints the command before and the time after.
    fn bandsox(&self, words: &[&str]) -> Result<Duration> {
        let typed = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        say(&format!("\n$ bandsox {typed}"));
        let start = Instant::now();
        let status = self.command(words).status().context("cannot run bandsox")?;
        let took = start.elapsed();
        ensure!(status.success(), "`bandsox {typed}` ended with {status}");
        say(&format!("  {}", seconds(took)));
        Ok(took)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.dir.path()).env("BANDSOX_STORAGE", self.storage());
        command.stdin(Stdio::null());
        command
    }

    fn write(&self, name: &str, bytes: &[u8], typed: &str) -> Result<()> {
        say(&format!("\n$ {typed}"));
        fs::write(self.dir.path().join(name), bytes).with_context(|| format!("cannot write {name}"))
    }

    fn same(&self, one: &str, other: &str) -> Result<()> {
        say(&format!("\n$ cmp {one} {other}"));
        let read = |name: &str| fs::read(self.dir.path().join(Path::new(name)));
        ensure!(read(one)? == read(other)?, "{one} and {other} differ");
        say("  the same");
        Ok(())
    }

    /// Removes the VM wherever the walk ended; the directory goes by itself.
    fn clean_up(self) {
        // After a walk to the end there is no VM left, and this fails.
        self.command(&["rm", "--force", "my-new-vm"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '|']) { format!("'{word}'") } else { word.to_owned() }
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

fn rate(took: Duration) -> u128 {
    LARGE_BYTES as u128 / took.as_micros().max(1)
}
