//! From `create` to `rm`, and every way a guest can end in between.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use bandsox_e2e::{Bed, Storage, Vm, descendants, eventually};

#[test]
fn a_vm_lives_through_every_command_and_keeps_its_disk() {
    let storage = Storage::new();
    assert_eq!(storage.bandsox(&["list"]).ok(), "No VMs found.");
    let vm = storage.create_with("first", &["-e", "COLOUR=green"]);
    assert_eq!(vm.status(), "created");
    vm.run("exec", &["--", "true"]).output().code(125);

    vm.start();
    assert_eq!(vm.status(), "running");
    vm.run("start", &[]).output().refused("running");
    assert_eq!(vm.sh("echo $COLOUR; echo kept > /etc/kept; hostname"), "green\nfirst");

    vm.run("pause", &[]).ok();
    assert_eq!(vm.status(), "paused");
    vm.run("exec", &["--", "true"]).output().refused("paused").code(125);
    vm.run("resume", &[]).ok();
    assert_eq!(vm.sh("cat /etc/kept"), "kept");

    let restarted = vm.run("restart", &["-o", "json"]).output().ok().json();
    assert_eq!(restarted["id"], *vm.id);
    assert_eq!(vm.sh("cat /etc/kept"), "kept");
    vm.run("rm", &[]).output().refused("running");
    vm.stop();
    assert_eq!(vm.status(), "stopped");
    for socket in ["control.sock", "vsock.sock"] {
        assert!(!vm.sockets().join(socket).exists(), "{socket} is left");
    }

    vm.run("rename", &["second"]).ok();
    let started = storage.bandsox(&["start", "second", "nobody", "-o", "json"]).output();
    // Several names give a list, of what went well.
    assert_eq!(started.refused("nobody").json()[0]["id"], *vm.id);
    assert_eq!(vm.sh("cat /etc/kept"), "kept");
    let engine = vm.engine();
    vm.run("rm", &["--force"]).ok();
    assert_eq!(storage.bandsox(&["list"]).ok(), "No VMs found.");
    eventually("the engine is gone", || {
        bandsox_e2e::Process::read(engine.pid).is_none().then_some(())
    });
    for dir in ["metadata", "disks", "sockets", "logs"] {
        let left = entries_naming(&storage, dir, &vm.id);
        assert!(left.is_empty(), "rm left {left:?}");
    }
}

#[test]
fn how_a_guest_ended_shows_in_list_and_inspect() {
    let storage = Storage::new();
    let vm = storage.create("ends");

    for (command, status, end) in [
        ("poweroff -f", "stopped", "stopped: powered_off"),
        ("reboot -f", "stopped", "stopped: rebooted"),
        (
            "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger",
            "crashed",
            "crashed: panicked",
        ),
    ] {
        vm.start();
        // The connection dies with the guest: how the command ends does not matter.
        drop(vm.exec(&["sh", "-c", command]).output());
        vm.becomes(status);
        assert_eq!(vm.end(), end, "after {command}");
        vm.has_no_lease();
    }
    vm.start();
    assert_eq!(vm.sh("echo again"), "again");
    vm.stop();
    assert_eq!(vm.end(), "stopped: requested");
    vm.has_no_lease();
}

#[test]
fn a_paused_guest_stands_still_and_stops_in_order_when_asked() {
    let storage = Storage::new();
    let vm = storage.started("still");
    let console = storage.root().join(format!("logs/{}/console.log", vm.id));
    let printed = || fs::metadata(&console).map_or(0, |log| log.len());
    let grows = || {
        let before = printed();
        eventually("the guest prints on", || (printed() > before).then_some(()));
    };
    vm.sh("(while :; do echo tick > /dev/console; sleep 0.05; done) > /dev/null 2>&1 &");
    grows();

    vm.run("pause", &[]).ok();
    // What was on its way to the file is in it by now, or soon.
    std::thread::sleep(Duration::from_millis(500));
    let before = printed();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(printed(), before, "a paused guest printed");
    vm.run("resume", &[]).ok();
    grows();

    vm.sh("echo kept > /etc/kept");
    vm.run("pause", &[]).ok();
    vm.stop();
    assert_eq!(vm.end(), "stopped: requested");
    vm.start();
    assert_eq!(vm.sh("cat /etc/kept"), "kept");
    vm.run("stop", &["--timeout", "0"]).ok();
    assert_eq!(vm.end(), "stopped: forced");
}

#[test]
fn more_clients_than_a_monitor_serves_are_turned_away_and_harm_nobody() {
    let storage = Storage::new();
    let vm = storage.started("popular");
    let running = vm.exec(&["sh", "-c", "sleep 5; echo unharmed"]).spawn();
    eventually("it runs", || vm.sh("ps -o args").contains("sleep 5").then_some(()));

    // They say nothing and hold their places.
    let idle: Vec<_> = (0..160).map(|_| bandsox_e2e::call_monitor(&vm)).collect();
    let refused = vm.exec(&["echo", "hi"]).output().refused("").code(125);
    assert!(refused.stdout.is_empty(), "{refused}");
    drop(idle);

    eventually("there is room again", || {
        vm.exec(&["true"]).output().status.success().then_some(())
    });
    assert_eq!(running.wait().ok().text(), "unharmed");
}

#[test]
fn a_reboot_of_the_host_ends_its_vms_in_a_named_state() {
    let storage = Storage::new();
    let vm = storage.started("survivor");
    vm.sh("echo kept > /etc/kept; sync");

    // All that is left after a reboot: the files, with another boot's id in the kernel.
    let monitor = vm.monitor();
    let family = descendants(monitor.pid);
    monitor.kill();
    family.iter().for_each(bandsox_e2e::Process::kill);
    eventually("the VM's processes are gone", || {
        let mut all = family.iter().chain([&monitor]);
        all.all(|process| bandsox_e2e::Process::read(process.pid).is_none()).then_some(())
    });
    let mut metadata = vm.metadata();
    metadata["boot_id"] = "00000000-0000-4000-8000-000000000000".into();
    fs::write(vm.metadata_path(), metadata.to_string()).expect("written");

    assert_eq!(vm.end(), "stopped: host_rebooted");
    vm.has_no_lease();
    vm.start();
    assert_eq!(vm.sh("cat /etc/kept"), "kept");
}

#[test]
fn every_image_form_boots_and_no_image_is_ever_written_to() {
    let storage = Storage::new();
    let bed = Bed::get();
    let mine = storage.scratch("mine.ext4");
    fs::copy(bed.ext4(), &mine).expect("copied");
    let before = fs::read(&mine).expect("ours");

    for (name, image) in [("ext4", &mine), ("tar", &bed.tar()), ("dir", &bed.rootfs)] {
        let id = storage.bandsox(&["create", "--name", name]).arg(image).ok();
        let vm = Vm::new(&storage, id);
        vm.start();
        assert!(vm.sh("cat /etc/os-release").contains("bandsox-test"), "from {name}");
        vm.sh("echo scribble > /etc/os-release; rm -rf /home");
        vm.stop();
    }
    let bases = fs::read_dir(storage.root().join("images")).expect("made").count();
    assert!(bases >= 1, "the tar and the directory became base images");
    let id = storage.bandsox(&["create"]).arg(bed.tar()).ok();
    assert_eq!(Vm::new(&storage, id).status(), "created");
    let now = fs::read_dir(storage.root().join("images")).expect("made").count();
    assert_eq!(now, bases, "the same archive is kept once");

    assert!(fs::read(&mine).expect("ours") == before, "the image was written to");
    storage.bandsox(&["rm", "--force", "ext4"]).ok();
    assert!(mine.exists(), "rm removed an image");
}

#[test]
fn a_base_that_changed_since_create_is_refused_at_start() {
    let storage = Storage::new();
    let mine = storage.scratch("mine.ext4");
    fs::copy(Bed::get().ext4(), &mine).expect("copied");
    let vm = Vm::new(&storage, storage.bandsox(&["create"]).arg(&mine).ok());
    fs::OpenOptions::new()
        .write(true)
        .open(&mine)
        .and_then(|file| {
            use std::os::unix::fs::FileExt;
            file.write_all_at(b"changed", 4096)
        })
        .expect("written");

    vm.run("start", &[]).output().refused("changed");

    assert_eq!(vm.end(), "stopped: start_failed");
    vm.has_no_lease();
}

#[test]
fn bad_values_are_refused_and_leave_nothing_behind() {
    let storage = Storage::new();
    let image = Bed::get().ext4();
    let text = storage.file("text.ext4", b"not a file system");
    let before = files_in(&storage);

    for (args, message) in [
        (&["--vcpu", "0"][..], "vcpu"),
        (&["--mem", "1"], "mem"),
        (&["--disk-size", "0"], "disk"),
        (&["--name", "../up"], "name"),
        (&["-e", "=x"], "env"),
        (&["--engine", "kvm"], "kvm"),
        (&["--engine", "vmware"], "engine"),
    ] {
        let outcome = storage.bandsox(&["create"]).arg(&image).args(args).output().refused("");
        let said = outcome.complaint().to_lowercase();
        assert!(said.contains(message), "{args:?} said: {said}");
    }
    storage.bandsox(&["create"]).arg(&text).output().refused("text.ext4");
    storage.bandsox(&["create", "/nowhere/image.ext4"]).output().refused("/nowhere/image.ext4");
    storage.bandsox(&["create", "--frobnicate"]).output().code(2).refused("frobnicate");
    let taken = storage.create("taken");
    storage.bandsox(&["create", "--name", "taken"]).arg(&image).output().refused("taken");
    taken.run("rm", &[]).ok();

    assert_eq!(storage.bandsox(&["list"]).ok(), "No VMs found.");
    let left: Vec<_> =
        files_in(&storage).into_iter().filter(|file| !before.contains(file)).collect();
    let expected = ["template-", ".lock", "_allocator.json"];
    let unexpected = left.iter().filter(|file| !expected.iter().any(|part| file.contains(part)));
    assert_eq!(unexpected.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn a_vm_is_named_by_id_prefix_or_name_and_never_by_chance() {
    let storage = Storage::new();
    let [web, db] = ["web", "db"].map(|name| storage.create(name));

    for spelled in ["web", &web.id, &web.id[..web.id.len() - 1]] {
        let inspected = storage.bandsox(&["inspect", spelled]).output().ok().json();
        assert_eq!(inspected["id"], web.id.as_str());
    }
    storage.bandsox(&["inspect", "nobody"]).output().refused("nobody");
    // An empty prefix fits both.
    storage.bandsox(&["rm", ""]).output().refused("");
    assert_eq!(db.status(), "created");
}

#[test]
fn init_changes_nothing_twice_and_repairs_what_is_half_done() {
    let storage = Storage::empty();
    let deb = &Bed::get().kernel_deb;
    let init = || storage.bandsox(&["init", "--kernel-deb"]).arg(deb).output().ok();
    init();
    let stamps = || {
        let files = fs::read_dir(storage.root().join("kernel")).expect("made").flatten();
        let mut stamps: Vec<_> = files
            .map(|entry| {
                let meta = entry.metadata().expect("there");
                (entry.file_name(), meta.ino(), meta.mtime_nsec(), meta.len())
            })
            .collect();
        stamps.sort();
        stamps
    };
    let first = stamps();

    init();
    assert_eq!(stamps(), first, "a second init changed something");

    let initramfs = storage.root().join("kernel/initramfs.cpio");
    fs::OpenOptions::new()
        .write(true)
        .open(&initramfs)
        .and_then(|file| file.set_len(1000))
        .expect("cut");
    init();
    fs::remove_file(storage.root().join("kernel/manifest.json")).expect("removed");
    init();
    fs::remove_file(storage.root().join("kernel/vmlinux")).expect("removed");
    init();

    let lengths = |stamps: &[(std::ffi::OsString, u64, i64, u64)]| {
        stamps.iter().map(|(name, _, _, len)| (name.clone(), *len)).collect::<Vec<_>>()
    };
    assert_eq!(lengths(&stamps()), lengths(&first));
    let vm = storage.started("boots");
    assert_eq!(vm.sh("echo hi"), "hi");
}

#[test]
fn start_without_a_kernel_says_what_to_do() {
    let storage = Storage::empty();
    let image = Bed::get().ext4();

    let created = storage.bandsox(&["create", "--name", "early"]).arg(image).output();

    let said = if created.status.success() {
        storage.bandsox(&["start", "early"]).output().refused("init").complaint()
    } else {
        created.refused("init").complaint()
    };
    assert!(said.contains("bandsox init"), "no remedy in: {said}");
}

#[test]
fn run_creates_runs_passes_the_exit_code_and_removes() {
    let storage = Storage::new();
    let image = Bed::get().tar();

    let outcome = storage
        .bandsox(&["run", "--rm", "-i"])
        .arg(&image)
        .args(["--", "sh", "-c", "cat; echo err >&2; exit 42"])
        .stdin("fed")
        .output()
        .code(42);

    assert_eq!(outcome.text(), "fed");
    assert!(outcome.complaint().contains("err"));
    assert_eq!(storage.bandsox(&["list"]).ok(), "No VMs found.");
}

#[test]
fn a_storage_path_of_more_than_a_hundred_characters_works() {
    let storage = Storage::with_long_path();
    let vm = storage.started("far-away");
    let local = storage.file("a", b"abc");

    vm.upload(&local, "/tmp/a").ok();
    assert_eq!(vm.sh("cat /tmp/a"), "abc");
    let mut agent = bandsox_e2e::connect(&vm.sockets(), 9000).expect("CONNECT works");
    std::io::Write::write_all(&mut agent, b"{\"type\":\"download\",\"path\":\"/tmp/a\"}\n")
        .expect("sent");
    let mut answer = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(agent), &mut answer)
        .expect("answered");
    assert!(
        answer.contains("\"type\":\"chunk\"") || answer.contains("\"type\": \"chunk\""),
        "{answer}"
    );
    vm.stop();
    vm.run("rm", &[]).ok();
}

#[test]
fn vms_started_at_once_share_nothing() {
    let storage = Storage::new();
    let vms: Vec<_> = (0..3).map(|n| storage.create(&format!("vm-{n}"))).collect();

    let starting: Vec<_> = vms.iter().map(|vm| vm.run("start", &[]).spawn()).collect();
    for start in starting {
        start.wait().ok();
    }

    let mut leases: Vec<_> =
        vms.iter().map(|vm| vm.metadata()["vsock_config"]["cid"].clone()).collect();
    leases.sort_by_key(ToString::to_string);
    assert_eq!(leases, [3, 4, 5]);
    for (n, vm) in vms.iter().enumerate() {
        assert_eq!(
            vm.sh(&format!("echo {n} > /tmp/mine; cat /tmp/mine; hostname")),
            format!("{n}\nvm-{n}")
        );
    }
}

fn entries_naming(storage: &Storage, dir: &str, id: &str) -> Vec<String> {
    let entries = fs::read_dir(storage.root().join(dir)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(id)).collect()
}

fn files_in(storage: &Storage) -> Vec<String> {
    let listed = bandsox_e2e::Run::new("find").arg(storage.root()).args(["-type", "f"]).ok();
    listed.lines().map(str::to_owned).collect()
}
