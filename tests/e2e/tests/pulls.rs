//! Pulls as processes: interrupted, killed, several at once, and what others may do meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use bandsox_e2e::{Bed, Registry, Storage, Tap, eventually};
use rustix::process::Signal;

/// A registry with the small image, a wire to it that can be cut, and the image's name over that wire.
struct Wired {
    storage: Storage,
    tap: Tap,
    name: String,
    _registry: Registry,
}

impl Wired {
    fn new() -> Self {
        let registry = Registry::start();
        registry.put(&Bed::get().busybox_image(), "small:1");
        let tap = Tap::to(&registry.host);
        let name = format!("{}/small:1", tap.host);
        Self { storage: Storage::new(), tap, name, _registry: registry }
    }

    fn pull(&self) -> bandsox_e2e::Run {
        self.storage.bandsox(&["image", "pull", &self.name])
    }

    /// Files below a directory of the images, with their sizes.
    fn files(&self, below: &str) -> Vec<(PathBuf, u64)> {
        let entries = fs::read_dir(self.storage.root().join("images").join(below));
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|it| (it.path(), it.metadata().map_or(0, |about| about.size()))).collect()
    }

    fn listed(&self) -> usize {
        let rows = self.storage.bandsox(&["image", "ls", "-o", "json"]).output().ok().json();
        rows.as_array().map_or(0, Vec::len)
    }

    /// A pull that has come so far that some of a layer is there and nothing more comes.
    fn stuck(&self, bytes: u64) -> bandsox_e2e::Started {
        self.tap.allow(bytes);
        let pull = self.pull().spawn();
        eventually("some of a layer is there and no more comes", || {
            let files = [self.files("blobs/partial"), self.files("blobs/sha256")].concat();
            let stored: u64 = files.iter().map(|(_, size)| size).sum();
            // The rest was headers.
            let is_there = stored > bytes.saturating_sub(50_000);
            (is_there && self.tap.is_dry() && !self.files("blobs/partial").is_empty()).then_some(())
        });
        pull
    }

    /// What a whole pull brings, in bytes.
    fn whole(&self) -> u64 {
        let before = self.tap.passed();
        let other = Storage::new();
        other.bandsox(&["image", "pull", &self.name]).ok();
        self.tap.passed() - before
    }
}

#[test]
fn an_interrupted_pull_ends_at_once_and_the_next_one_goes_on() {
    let wired = Wired::new();
    let whole = wired.whole();
    let pull = wired.stuck(whole / 2);

    pull.signal(Signal::INT);
    // The wire stays cut: waiting for it would take longer than any deadline here.
    let outcome = pull.wait();
    let interrupted = outcome.status.code() == Some(130) || outcome.status.signal() == Some(2);
    assert!(interrupted, "a shell must see 130\n{outcome}");
    assert!(wired.files("blobs/partial").iter().any(|(_, size)| *size > 0), "{outcome}");
    assert_eq!(wired.listed(), 0);

    let before = wired.tap.passed();
    wired.tap.allow(u64::MAX);
    wired.pull().ok();
    let again = wired.tap.passed() - before;
    assert!(again < whole * 3 / 4, "{again} of {whole} bytes came again");
    assert_eq!((wired.listed(), wired.files("blobs/partial").len()), (1, 0));
}

#[test]
fn nobody_takes_an_image_away_while_it_is_being_pulled() {
    let wired = Wired::new();
    wired.tap.allow(u64::MAX);
    wired.pull().ok();
    wired.storage.bandsox(&["image", "rm", &wired.name]).ok();
    let pull = wired.stuck(200_000);

    for words in [&["image", "prune", "--all"][..], &["image", "rm", &wired.name]] {
        let refused = wired.storage.bandsox(words).output();
        assert!(!refused.status.success(), "{refused}");
        let said = refused.complaint();
        assert!(said.contains("being pulled") || said.contains("no image"), "{refused}");
    }
    wired.tap.allow(u64::MAX);
    assert!(pull.wait().ok().text().starts_with("sha256:"));
    assert_eq!(wired.listed(), 1);
}

#[test]
fn a_vm_that_is_being_created_is_not_there_yet_for_rm() {
    let wired = Wired::new();
    wired.tap.allow(100_000);
    let create = wired.storage.bandsox(&["create", &wired.name, "--name", "web"]).spawn();
    eventually("the pull is under way", || wired.tap.is_dry().then_some(()));

    let removed = wired.storage.bandsox(&["rm", "-f", "web"]).output().ok();
    assert!(removed.complaint().contains("There is no VM"), "{removed}");
    wired.storage.bandsox(&["rm", "web"]).output().refused("web");
    wired.tap.allow(u64::MAX);
    let id = create.wait().ok().text();

    assert_eq!(wired.storage.listed("web").expect("is there")["id"], id.as_str());
    wired.storage.bandsox(&["rm", "-f", "web"]).ok();
    assert_eq!(wired.storage.bandsox(&["list", "-q"]).ok(), "");
}

#[test]
fn pulls_by_several_processes_bring_everything_once() {
    let wired = Wired::new();
    let whole = wired.whole();
    let before = wired.tap.passed();

    let pulls: Vec<_> = (0..4).map(|_| wired.pull().spawn()).collect();
    let said: Vec<String> = pulls.into_iter().map(|pull| pull.wait().ok().text()).collect();

    assert!(said.iter().all(|digest| *digest == said[0]), "{said:?}");
    let brought = wired.tap.passed() - before;
    // Each asks for the manifest; nothing else comes twice.
    assert!(brought < whole + whole / 4, "{brought} bytes for an image of {whole}");
}

#[test]
fn a_pull_that_is_killed_anywhere_is_repaired_by_the_next_one() {
    let wired = Wired::new();
    let whole = wired.whole();
    for part in 1..6 {
        wired.tap.allow(whole * part / 6);
        let mut pull = wired.pull().spawn();
        eventually("nothing more comes, or all is there", || {
            (wired.tap.is_dry() || !pull.is_running()).then_some(())
        });
        if pull.is_running() {
            pull.signal(Signal::KILL);
        }
        drop(pull.wait());
        assert!(wired.listed() <= 1);
    }
    wired.tap.allow(u64::MAX);
    wired.pull().ok();

    // Likewise while the base is built and named: at whatever moment each of these is.
    for wait_ms in [5, 15, 30, 60, 90, 130] {
        wired.storage.bandsox(&["image", "rm", &wired.name]).ok();
        let mut pull = wired.pull().spawn();
        thread::sleep(Duration::from_millis(wait_ms));
        if pull.is_running() {
            pull.signal(Signal::KILL);
        }
        drop(pull.wait());
        wired.pull().ok();
        assert_eq!(wired.listed(), 1);
    }
    wired.storage.bandsox(&["image", "prune"]).ok();
    let odd = |below: &str| {
        let files = wired.files(below);
        files.into_iter().filter(|(path, _)| path.to_string_lossy().contains(".tmp-")).count()
    };
    assert_eq!(
        (wired.files("blobs/partial").len(), odd("blobs/sha256"), odd("refs"), odd("")),
        (0, 0, 0, 0)
    );
    let vm = wired.storage.bandsox(&["create", &wired.name, "--pull", "never"]).ok();
    let vm = bandsox_e2e::Vm::new(&wired.storage, vm);
    vm.start();
    assert_eq!(vm.sh("cat lower"), "lower");
}

#[test]
fn a_hundred_vms_of_one_image_store_its_base_once() {
    let wired = Wired::new();
    wired.pull().ok();
    let usage = || {
        let rows = wired.storage.bandsox(&["df", "-o", "json"]).output().ok().json();
        let rows = rows.as_array().expect("a list").clone();
        let bytes = |kind: &str| {
            let row = rows.iter().find(|row| row["kind"] == kind).cloned().unwrap_or_default();
            row["bytes"].as_u64().unwrap_or(0)
        };
        (bytes("images"), bytes("disks"))
    };
    wired.storage.bandsox(&["create", &wired.name]).ok();
    let (images, disks) = usage();

    for _ in 0..99 {
        wired.storage.bandsox(&["create", &wired.name, "--pull", "never"]).ok();
    }

    let (images_after, disks_after) = usage();
    assert_eq!(images_after, images);
    let each = (disks_after - disks) / 99;
    assert!(each < 1 << 20, "each VM takes {each} bytes");
    assert_eq!(wired.storage.bandsox(&["list", "-q"]).ok().lines().count(), 100);
    let bases = wired
        .files("")
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|it| it == "erofs"));
    assert_eq!(bases.count(), 1);
}

#[test]
fn each_layer_has_a_line_with_what_came_the_rate_and_the_time_that_is_left() {
    let wired = Wired::new();
    wired.tap.allow(200_000);
    let pull = wired.storage.in_terminal((24, 120), &["image", "pull", &wired.name]);
    // A layer's line while some of it is there: `9d9e7bed6934 pulling ███░░░ 190.00 KiB of 1.57 MiB 1.2 MiB/s 3s`.
    eventually("a layer has a line with all of that", || {
        let screen = pull.screen();
        let mut lines = screen.split(" pulling ").skip(1);
        lines.find_map(|line| {
            let (done, rest) = line.split_once(" of ")?;
            let (_, left) = rest.split_once("B/s")?;
            let left = left.trim_start().split_once('s').map(|(left, _)| left)?;
            let is_time = left.bytes().all(|byte| byte.is_ascii_alphanumeric());
            (done.ends_with("KiB") && is_time).then_some(())
        })
    });
    wired.tap.allow(u64::MAX);
    let (status, screen) = pull.end();

    assert!(status.success());
    assert!(screen.contains("Pulled "));
}
