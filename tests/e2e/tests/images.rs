//! Container images: from a real registry into real guests.

use std::fs;

use bandsox_e2e::{Bed, Registry, Storage, Vm};
use serde_json::Value;

fn listed(storage: &Storage) -> Vec<Value> {
    let rows = storage.bandsox(&["image", "ls", "-o", "json"]).output().ok().json();
    rows.as_array().expect("a list").clone()
}

#[test]
fn an_image_of_a_registry_becomes_a_vm_with_everything_that_its_layers_say() {
    let registry = Registry::start();
    let name = registry.put(&Bed::get().busybox_image(), "small:1");
    let storage = Storage::new();

    let id = storage.bandsox(&["create", &name, "--name", "of-image"]).ok();
    let vm = Vm::new(&storage, id);
    vm.start();

    let root = |script: &str| vm.run("exec", &["-u", "root", "--", "sh", "-c", script]).ok();
    assert_eq!(root("cat lower new-name opaque/shown"), "lower\nmoved\nshown", "in WorkingDir");
    assert_eq!(root("ls -a opaque"), ".\n..\nshown", "an opaque directory hides what was below");
    assert_eq!(root("ls renamed /usr/bin/env 2>&1 | grep -c 'No such'"), "2", "whiteouts");
    assert_eq!(
        root("stat -c %h:%a:%u lower linked"),
        "2:4755:0\n2:4755:0",
        "a link between layers"
    );
    assert_eq!(root("readlink pointer"), "/srv/lower");
    assert_eq!(vm.sh("id -un; pwd; echo $GREETING"), "alice\n/srv\nhello from the image");
    let overridden = vm.run("exec", &["-u", "root", "-w", "/tmp", "-e", "GREETING=mine", "--"]);
    let overridden = overridden.args(["sh", "-c", "id -un; pwd; echo $GREETING"]).ok();
    assert_eq!(overridden, "root\n/tmp\nmine");
    let ports = vm.inspect()["image_config"]["exposed_ports"].clone();
    assert_eq!(ports, serde_json::json!(["80/tcp"]));
}

#[test]
fn run_takes_the_images_own_command_unless_it_is_given_another() {
    let registry = Registry::start();
    let name = registry.put(&Bed::get().busybox_image(), "own");
    let storage = Storage::new();
    let run = |words: &[&str]| storage.bandsox(&["run", "--rm"]).args(words).ok();

    assert_eq!(run(&[&name]), "hello from the image\nalice\n/srv");
    let other = ["-e", "GREETING=hi", &name, "--", "echo $GREETING there"];
    assert_eq!(run(&other), "hi there");
    assert_eq!(run(&["--entrypoint", "/bin/id", "-u", "root", &name, "--", "-u"]), "0");
    let none = Bed::get().tar();
    let refused = storage.bandsox(&["run", "--rm"]).arg(&none).output();
    refused.refused("says nothing of what to run").code(125);
    assert!(storage.bandsox(&["list", "-q"]).ok().is_empty(), "nothing is left");
}

#[test]
fn an_image_is_pulled_once_and_kept_as_long_as_a_vm_needs_it() {
    let registry = Registry::start();
    let name = registry.put(&Bed::get().busybox_image(), "kept");
    let storage = Storage::new();

    storage.bandsox(&["create", "--pull", "never", &name]).output().refused("is not here");
    let digest = storage.bandsox(&["image", "pull", &name]).ok();
    assert!(digest.starts_with("sha256:"), "{digest}");
    let id = storage.bandsox(&["create", "--pull", "never", &name]).ok();
    drop(registry);
    storage.bandsox(&["create", &name, "--name", "second"]).ok();

    let rows = listed(&storage);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["vms"].as_array().map(Vec::len), Some(2), "{rows:?}");
    storage.bandsox(&["image", "rm", &name]).output().refused("in use by").refused(&id);
    fs::write(storage.root().join("metadata/ffffffffffff.json"), "{").expect("written");
    for vm in [id.as_str(), "second"] {
        storage.bandsox(&["rm", vm]).ok();
    }
    storage.bandsox(&["image", "rm", &name]).output().refused("damaged");
    storage.bandsox(&["image", "prune", "--all"]).ok();
    assert_eq!(listed(&storage).len(), 1, "damaged metadata may need any image");

    fs::remove_file(storage.root().join("metadata/ffffffffffff.json")).expect("there");
    storage.bandsox(&["image", "rm", &name]).ok();
    assert_eq!(storage.bandsox(&["image", "ls"]).ok(), "No images found.");
    let images = storage.root().join("images");
    let bases = fs::read_dir(&images).expect("there").flatten();
    let bases = bases.filter(|it| it.path().extension().is_some_and(|it| it == "erofs")).count();
    assert_eq!(bases, 0);
    assert_eq!(fs::read_dir(images.join("blobs/sha256")).expect("there").count(), 0);
}

#[test]
fn images_go_out_and_come_back_by_layout_and_archive() {
    let storage = Storage::new();
    let layout = format!("oci:{}:{}", Bed::get().busybox_image().display(), bandsox_e2e::IMAGE_TAG);
    let digest = storage.bandsox(&["image", "pull", &layout]).ok();
    let saved = storage.scratch("saved.tar");
    let archive = format!("docker-archive:{}", saved.display());

    storage.bandsox(&["image", "export", &layout, &archive]).ok();
    storage.bandsox(&["image", "import"]).arg(&saved).arg("back:1").ok();
    let id = storage.bandsox(&["create", "back:1", "--pull", "never"]).ok();

    let rows = listed(&storage);
    let bases: Vec<_> = rows.iter().map(|row| row["base"].clone()).collect();
    assert_eq!(bases.len(), 2);
    assert_eq!(bases[0], bases[1], "the same layers give the same base");
    assert!(rows.iter().any(|row| row["manifest_digest"] == digest.as_str()), "{rows:?}");
    assert!(!id.is_empty());
}

#[test]
fn a_debian_image_is_whole_in_its_guest() {
    let registry = Registry::start();
    let name = registry.put(&Bed::debian_image(), "debian:bookworm");
    let storage = Storage::new();
    let id = storage.bandsox(&["create", &name, "--mem", "1024"]).ok();
    let vm = Vm::new(&storage, id);
    vm.start();

    // Nothing that a package brought has changed on the way: sizes, modes, owners, links, and every checksum.
    assert_eq!(vm.exec(&["dpkg", "--verify"]).ok(), "");
    assert_eq!(vm.exec(&["sh", "-c", ". /etc/os-release; echo $ID"]).ok(), "debian");
    assert!(vm.exec(&["dpkg-query", "-f", "${Package}\n", "-W"]).ok().lines().count() > 80);
}
