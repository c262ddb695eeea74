//! The migration guide, sentence by sentence.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bandsox_e2e::{Run, Storage, Vm, after_mounting, eventually, naming};

const GREETING: &[u8] = b"Hello, world!\n";

/// The monitor's log and what the command said: where the guide's messages may be looked for.
fn logged(vm: &Vm<'_>, message: &str) {
    eventually(message, || vm.monitor_log().contains(message).then_some(()));
}

#[test]
fn steps_3_and_4_work_as_written() {
    let storage = Storage::new();
    let vm = storage.create("my-new-vm");
    let test_txt = storage.file("test.txt", GREETING);
    let downloaded = storage.scratch("downloaded.txt");

    assert_eq!(vm.metadata()["vsock_config"]["enabled"], true);
    let said = vm.run("start", &["--verbose"]).output().ok().complaint();
    storage.bandsox(&["upload", "my-new-vm"]).arg(&test_txt).arg("/tmp/test.txt").ok();
    storage.bandsox(&["download", "my-new-vm", "/tmp/test.txt"]).arg(&downloaded).ok();

    assert!(said.contains("Vsock enabled: CID=3, Port=9000"), "start --verbose said: {said}");
    assert_eq!(fs::read(downloaded).expect("downloaded"), GREETING);
    logged(&vm, "Vsock enabled: CID=3, Port=9000");
    logged(&vm, "File uploaded via vsock: /tmp/test.txt (14 bytes)");
    logged(&vm, "File downloaded via vsock: /tmp/test.txt (14 bytes)");
    // The in-guest check of the guide's troubleshooting.
    assert!(vm.sh("lsmod | grep vsock").contains("vmw_vsock_virtio_transport"));
}

#[test]
fn cid_and_port_are_leased_at_start_and_given_back_at_stop() {
    let storage = Storage::new();
    let [first, second] = ["one", "two"].map(|name| storage.create(name));

    assert_eq!(first.metadata()["vsock_config"]["cid"], serde_json::Value::Null);
    first.start();
    second.start();

    let leases = [&first, &second].map(|vm| vm.metadata()["vsock_config"].clone());
    assert_eq!((&leases[0]["cid"], &leases[0]["port"]), (&3.into(), &9000.into()));
    assert_eq!((&leases[1]["cid"], &leases[1]["port"]), (&4.into(), &9001.into()));
    logged(&second, "Vsock enabled: CID=4, Port=9001");
    assert!(storage.json("cid_allocator.json")["next_cid"].is_u64());
    let ports = storage.json("port_allocator.json");
    assert!(ports["next_port"].is_u64());
    assert_eq!(ports["used_ports"], serde_json::json!([9000, 9001]));

    first.stop();
    let stopped = first.metadata()["vsock_config"].clone();
    assert_eq!(stopped["enabled"], true);
    assert!(stopped["cid"].is_null() && stopped["port"].is_null(), "{stopped}");
    let third = storage.started("three");
    assert_eq!(third.metadata()["vsock_config"]["cid"], 3, "the lowest free one is used");
}

#[test]
fn the_guides_reset_lines_are_accepted_while_a_vm_runs() {
    let storage = Storage::new();
    let running = storage.started("running");

    fs::write(storage.root().join("cid_allocator.json"), "{\"next_cid\": 3}\n").expect("written");
    fs::write(
        storage.root().join("port_allocator.json"),
        "{\"next_port\": 9000, \"used_ports\": []}\n",
    )
    .expect("written");
    let other = storage.started("other");

    assert_eq!(other.metadata()["vsock_config"]["cid"], 4);
    assert_eq!(other.metadata()["vsock_config"]["port"], 9001);
    assert_eq!(running.sh("echo alive"), "alive");
}

#[test]
fn corrupt_and_empty_allocators_are_rebuilt_around_the_vms_that_run() {
    let storage = Storage::new();
    let running = storage.started("running");
    let other = storage.create("other");

    for (cids, ports) in [("", ""), ("not json", "{"), ("[]", "{\"next_port\": \"x\"}")] {
        fs::write(storage.root().join("cid_allocator.json"), cids).expect("written");
        fs::write(storage.root().join("port_allocator.json"), ports).expect("written");
        other.start();
        assert_eq!(other.metadata()["vsock_config"]["cid"], 4, "after {cids:?}");
        other.run("stop", &["--timeout", "0"]).ok();
    }

    assert_eq!(running.sh("echo alive"), "alive");
}

#[test]
fn the_first_cid_too_many_is_refused_and_leaks_nothing() {
    let storage = Storage::new();
    let vm = storage.create("one-too-many");
    // As if 252 VMs ran: their metadata names the leases, and somebody holds their locks.
    let template = vm.metadata();
    let lease = |cid: u32| serde_json::json!({ "enabled": true, "cid": cid, "port": 9000 + cid });
    let locks: Vec<_> =
        (3..=254_u32).map(|cid| live_vm(&storage, &template, cid, lease(cid))).collect();

    refused_without_a_leak(&vm, "No available CIDs");

    drop(locks);
    vm.start();
    assert_eq!(vm.metadata()["vsock_config"]["cid"], 3, "those of the dead are taken back");
}

#[test]
fn the_first_port_too_many_is_refused_and_leaks_no_cid() {
    let storage = Storage::new();
    let vm = storage.create("one-too-many");
    // Ports run out before CIDs only if somebody else has written the metadata: all ports are named, 250 with a CID.
    let template = vm.metadata();
    let lease = |n: u32| {
        let cid = (n < 250).then_some(3 + n);
        serde_json::json!({ "enabled": true, "cid": cid, "port": 9000 + n })
    };
    // A lock is a descriptor here.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("allowed");
    let mut locks: Vec<_> = (0..1000).map(|n| live_vm(&storage, &template, n, lease(n))).collect();

    refused_without_a_leak(&vm, "No available ports");

    let one = locks.pop().expect("a thousand");
    drop(one);
    vm.start();
    let got = vm.metadata()["vsock_config"].clone();
    assert_eq!((&got["cid"], &got["port"]), (&253.into(), &9999.into()), "the free ones");
    vm.run("stop", &["--timeout", "0"]).ok();
    drop(locks);
    vm.start();
    let got = vm.metadata()["vsock_config"].clone();
    assert_eq!((&got["cid"], &got["port"]), (&3.into(), &9000.into()), "the lowest");
}

/// `start` says exactly this, and the VM has nothing afterwards.
fn refused_without_a_leak(vm: &Vm<'_>, message: &str) {
    let refused = vm.run("start", &[]).output().refused(message);
    let line = refused.complaint().lines().find(|line| line.contains(message)).map(str::to_owned);
    let line = line.expect("just looked for");
    assert!(line.ends_with(message), "more than {message:?} was said: {line:?}");
    assert!(refused.stdout.is_empty(), "{refused}");
    assert_eq!(vm.end(), "stopped: start_failed");
    assert_eq!(vm.inspect()["status_reason"]["detail"], message);
    vm.has_no_lease();
    assert_eq!(naming(Path::new(&vm.id)), Vec::new(), "processes are left");
}

/// Metadata of a running VM with this lease, and its lock, which is held until the value is dropped.
fn live_vm(
    storage: &Storage,
    template: &serde_json::Value,
    number: u32,
    vsock_config: serde_json::Value,
) -> fs::File {
    let id = format!("{number:012x}");
    let mut metadata = template.clone();
    metadata["id"] = id.clone().into();
    metadata["name"] = format!("vm-{number}").into();
    metadata["status"] = "running".into();
    metadata["vsock_config"] = vsock_config;
    let path = storage.root().join(format!("metadata/{id}.json"));
    fs::write(path, metadata.to_string()).expect("written");
    fs::create_dir_all(storage.root().join("locks")).expect("made");
    let lock = fs::File::create(storage.root().join(format!("locks/{id}.lock"))).expect("made");
    rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .expect("free");
    lock
}

#[test]
fn fifty_starts_by_as_many_processes_never_share_a_cid_or_port() {
    const VMS: usize = 50;
    let storage = Storage::new();
    let vms: Vec<_> = (0..VMS).map(|n| storage.create(&format!("vm-{n}"))).collect();
    // An engine that never says a word: each monitor has its lease and waits.
    let engine = storage.file("engine", b"#!/bin/sh\nexec sleep 100000\n");
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).expect("ours");
    let starts: Vec<_> = vms.iter().map(|vm| with_engine(&engine, vm).spawn()).collect();

    let lease = |vm: &Vm<'_>| {
        let config = vm.metadata()["vsock_config"].clone();
        Some((config["cid"].as_u64()?, config["port"].as_u64()?))
    };
    let (cids, ports): (BTreeSet<_>, BTreeSet<_>) = eventually("all have a lease", || {
        let leases: Vec<_> = vms.iter().filter_map(lease).collect();
        // Whoever reads the files in between resets them.
        fs::write(storage.root().join("cid_allocator.json"), "{\"next_cid\": 3}\n").expect("ours");
        fs::write(
            storage.root().join("port_allocator.json"),
            "{\"next_port\": 9000, \"used_ports\": []}\n",
        )
        .expect("ours");
        (leases.len() == VMS).then(|| leases.into_iter().unzip())
    });

    assert_eq!(cids, (3..53).collect());
    assert_eq!(ports, (9000..9050).collect());
    for monitor in vms.iter().map(Vm::monitor) {
        let family = bandsox_e2e::descendants(monitor.pid);
        monitor.kill();
        family.iter().for_each(bandsox_e2e::Process::kill);
    }
    for start in starts {
        assert!(!start.wait().status.success(), "its monitor was killed");
    }
    assert_eq!(vms[VMS - 1].end(), "crashed: monitor_died");
    assert_eq!(storage.json("port_allocator.json")["used_ports"], serde_json::json!([]));
}

/// `start`, in a mount namespace where this program stands in for QEMU.
fn with_engine(engine: &Path, vm: &Vm<'_>) -> Run {
    let storage = vm.storage();
    after_mounting("mount --bind \"$ENGINE\" /usr/bin/qemu-system-x86_64")
        .env("ENGINE", engine)
        .arg(storage.program())
        .arg("--storage")
        .arg(storage.root())
        .args(["start", "--no-jail", &vm.id])
}

#[test]
fn metadata_without_vsock_config_needs_serial_only() {
    let storage = Storage::new();
    let vm = storage.create("old");
    edit(&vm, |metadata| {
        metadata.as_object_mut().expect("an object").remove("vsock_config");
    });

    vm.run("start", &[])
        .output()
        .refused("VM requires vsock support. Please recreate the VM to enable vsock.");
    assert_eq!(vm.end(), "stopped: start_failed");

    vm.run("start", &["--serial-only"]).ok();
    assert!(vm.inspect()["status_reason"].is_null(), "it runs, and has not ended");
    works_over_serial(&storage, &vm);
    vm.run("upload", &["--transport", "vsock"])
        .arg(storage.file("x", b"x"))
        .arg("/tmp/x")
        .output()
        .refused("vsock");
}

#[test]
fn vsock_config_that_says_disabled_runs_over_serial() {
    let storage = Storage::new();
    let vm = storage.create("rolled-back");
    edit(&vm, |metadata| metadata["vsock_config"] = serde_json::json!({ "enabled": false }));

    vm.start();

    works_over_serial(&storage, &vm);
    vm.stop();
    assert_eq!(vm.metadata()["vsock_config"], serde_json::json!({ "enabled": false }));
}

#[test]
fn a_guest_kernel_without_vsock_falls_back_with_a_warning() {
    let storage = Storage::empty();
    let kernel = KernelWithoutVsock::unpack(&storage);
    storage
        .bandsox(&["init", "--kernel"])
        .arg(&kernel.image)
        .arg("--modules")
        .arg(&kernel.modules)
        .ok();
    let vm = storage.create("custom-kernel");

    let said = vm.start();

    assert!(
        (said + &vm.monitor_log()).contains("Vsock connection failed"),
        "the guide's warning is missing"
    );
    works_over_serial(&storage, &vm);
    assert_eq!(vm.exec(&["sh", "-c", "lsmod | grep -c vsock"]).output().text(), "0");
}

/// Files, commands and the shutdown, all without vsock.
fn works_over_serial(storage: &Storage, vm: &Vm<'_>) {
    let local = storage.file("serial.bin", &pattern(70_000));
    let back = storage.scratch("serial.back");

    vm.upload(&local, "/tmp/serial.bin").ok();
    vm.download("/tmp/serial.bin", &back).ok();

    assert!(fs::read(&local).expect("ours") == fs::read(back).expect("downloaded"));
    logged(vm, "File uploaded via agent: /tmp/serial.bin (70000 bytes)");
    logged(vm, "File downloaded via agent: /tmp/serial.bin (70000 bytes)");
    let outcome = vm.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).output().code(7);
    assert_eq!((outcome.text(), outcome.complaint().trim()), ("out".to_owned(), "err"));
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

fn edit(vm: &Vm<'_>, change: impl FnOnce(&mut serde_json::Value)) {
    let mut metadata = vm.metadata();
    change(&mut metadata);
    fs::write(vm.metadata_path(), metadata.to_string()).expect("written");
}

/// The test bed's kernel, as if it had been built without `CONFIG_VSOCKETS`.
struct KernelWithoutVsock {
    image: std::path::PathBuf,
    modules: std::path::PathBuf,
}

impl KernelWithoutVsock {
    fn unpack(storage: &Storage) -> Self {
        let dir = storage.scratch("kernel");
        let deb = &bandsox_e2e::Bed::get().kernel_deb;
        Run::new("dpkg-deb").arg("-x").arg(deb).arg(&dir).ok();
        let only = |below: &str| {
            let mut entries = fs::read_dir(dir.join(below)).expect("the package has it").flatten();
            entries.next().expect("one kernel").path()
        };
        let modules = only("lib/modules");
        fs::remove_dir_all(modules.join("kernel/net/vmw_vsock")).expect("the package has it");
        let image = fs::read_dir(dir.join("boot")).expect("the package has it").flatten();
        let mut image = image.map(|entry| entry.path());
        let is_image = |path: &std::path::PathBuf| path.to_string_lossy().contains("/vmlinuz-");
        Self { image: image.find(is_image).expect("a kernel"), modules }
    }
}
