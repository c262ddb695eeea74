//! What the engine could do if a guest broke out into it: nothing.

use std::fs;

use bandsox_e2e::{Process, Run, Storage};

#[test]
fn the_engine_runs_with_nothing_that_it_does_not_need() {
    let storage = Storage::new();
    let vm = storage.started("jailed");
    let engine = vm.engine();
    let is_root = rustix::process::geteuid().is_root();

    for (key, value) in [
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
    ] {
        assert_eq!(engine.status(key).as_deref(), Some(value), "{key}");
    }
    if is_root {
        assert_eq!(engine.status("CapBnd").as_deref(), Some("0000000000000000"));
        let uids = engine.status("Uid").expect("there");
        assert!(
            uids.split_whitespace().all(|uid| uid.parse::<u32>().is_ok_and(|uid| uid > 65_535)),
            "{uids}"
        );
    }
    for namespace in ["mnt", "pid", "net", "ipc"] {
        let of =
            |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).expect("readable");
        assert_ne!(of(&engine.pid.to_string()), of("self"), "{namespace}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", engine.pid)).expect("readable");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("listed");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let words: Vec<_> = engine.args.iter().map(|arg| arg.to_string_lossy()).collect();
    assert!(
        words
            .iter()
            .any(|word| word.starts_with("on,obsolete=deny,elevateprivileges=deny,spawn=deny"))
    );
    assert!(
        !words.iter().any(|word| word.contains("-net") || word.contains("virtio-net")),
        "{words:?}"
    );
}

#[test]
fn from_the_engines_place_there_is_no_file_no_network_and_no_other_process() {
    let storage = Storage::new();
    let vm = storage.started("place");
    let engine = vm.engine();

    let root = format!("/proc/{}/root", engine.pid);
    let found: Vec<_> = Run::new("find")
        .arg(&root)
        .args(["-xdev", "-type", "f"])
        .output()
        .text()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(found, Vec::<String>::new(), "files that the engine can open by name");
    let directories = open_files(&engine)
        .into_iter()
        .filter(|target| fs::metadata(target).is_ok_and(|meta| meta.is_dir()));
    assert_eq!(
        directories.collect::<Vec<_>>(),
        Vec::<String>::new(),
        "a directory is open: a way out of the root"
    );

    // Run something there: what enters brings its own program.
    let pid = engine.pid.to_string();
    let inside = |script: &str| {
        let mut enter = Run::new("nsenter").args(["-t", &pid, "-n", "-p", "-i"]);
        if !rustix::process::geteuid().is_root() {
            // Whoever made a user namespace may do anything in it.
            enter = enter.args(["-U", "--preserve-credentials"]);
        }
        enter.args(["--", "sh", "-c", script]).output()
    };
    let links = inside("cat /proc/self/net/dev").ok().text();
    let links: Vec<_> =
        links.lines().skip(2).map(str::trim).filter(|link| !link.starts_with("lo:")).collect();
    assert_eq!(links, Vec::<&str>::new(), "network devices");
    assert!(
        !inside("kill -0 1 2> /dev/null && kill -0 100").status.success(),
        "other processes are in sight"
    );
}

#[test]
fn no_jail_says_so_each_time() {
    let storage = Storage::new();
    let vm = storage.create("bare");

    for _ in 0..2 {
        let said = vm.run("start", &["--no-jail"]).output().ok().complaint();
        assert!(said.to_lowercase().contains("jail"), "{said}");
        assert_eq!(vm.sh("echo hi"), "hi");
        vm.run("stop", &["--timeout", "0"]).ok();
    }
}

#[test]
fn doctor_proves_the_jail_on_this_host() {
    let storage = Storage::new();

    let report = storage.bandsox(&["doctor"]).output().ok();

    let text = report.text().to_lowercase();
    assert!(text.contains("jail"), "{report}");
    assert!(text.contains("qemu"), "{report}");
    assert!(
        storage.bandsox(&["-o", "json", "doctor"]).output().ok().json().is_array()
            || text.contains("engine")
    );
}

/// Where the descriptors of a process lead.
fn open_files(process: &Process) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.pid)).expect("readable").flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.map(|target| target.to_string_lossy().into_owned()).collect()
}
