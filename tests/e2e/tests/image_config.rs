//! What an image says of how it is to be run.

use bandsox_e2e::{Bed, Layout, Storage, Vm};
use serde_json::{Value, json};

/// An image that says `config`, and nothing else but a PATH.
fn image(storage: &Storage, name: &str, config: Value) -> String {
    let nothing = json!({"User": "", "WorkingDir": "", "Entrypoint": null, "Cmd": null,
        "Env": ["PATH=/bin:/usr/bin"], "ExposedPorts": {}});
    let layout = Layout::copy(&Bed::get().busybox_image(), storage.scratch(name));
    layout.with_config(nothing).with_config(config).name()
}

fn run(storage: &Storage, args: &[&str]) -> bandsox_e2e::Run {
    storage.bandsox(&["run", "--rm"]).args(args)
}

#[test]
fn a_working_directory_that_the_image_does_not_have_is_made() {
    let storage = Storage::new();
    let config = json!({"WorkingDir": "/not/there", "Cmd": ["pwd"], "User": "alice"});
    let image = image(&storage, "workdir", config);

    assert_eq!(run(&storage, &[&image]).ok(), "/not/there");
    let vm = Vm::new(&storage, storage.bandsox(&["create", &image]).ok());
    vm.start();
    assert_eq!(vm.sh("pwd; stat -c %U:%a ."), "/not/there\nroot:755");
    // One that somebody types is not made: it may be a slip.
    let slip = vm.run("exec", &["-w", "/slip", "--", "pwd"]).output();
    slip.refused("/slip");
}

#[test]
fn a_user_is_a_name_or_a_number_with_or_without_a_group() {
    let storage = Storage::new();
    let ids = "echo $(id -u):$(id -g):$(id -G):$HOME";
    for (number, (user, want)) in [
        ("alice", "1000:1000:1000 50:/home/alice"),
        ("alice:staff", "1000:50:50:/home/alice"),
        ("1000:nogroup", "1000:65534:65534:/home/alice"),
        ("4321:8765", "4321:8765:8765:/"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = json!({"User": user, "Entrypoint": ["sh", "-c", ids]});
        let image = image(&storage, &format!("user{number}"), config);
        assert_eq!(run(&storage, &[&image]).ok(), want, "{user}");
    }

    let nobody = image(&storage, "nobody", json!({"User": "mallory", "Cmd": ["id"]}));
    run(&storage, &[&nobody]).output().refused("mallory");
    assert_eq!(run(&storage, &["-u", "root", &nobody, "--", "id", "-u"]).ok(), "0");
}

#[test]
fn entrypoint_and_cmd_go_together_as_docker_has_it() {
    let storage = Storage::new();
    let both = json!({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]});
    let both = image(&storage, "both", both);
    let only_entry = image(&storage, "entry", json!({"Entrypoint": ["echo", "entry"]}));
    let only_cmd = image(&storage, "cmd", json!({"Cmd": ["echo", "cmd"]}));

    for (words, want) in [
        (&[both.as_str()][..], "entry cmd"),
        (&[&both, "--", "mine"], "entry mine"),
        (&["--entrypoint", "echo", &both], ""),
        (&["--entrypoint", "echo", &both, "--", "mine"], "mine"),
        (&["--entrypoint", "", &both, "--", "echo", "bare"], "bare"),
        (&[&only_entry], "entry"),
        (&[&only_cmd], "cmd"),
        (&[&only_cmd, "--", "echo", "mine"], "mine"),
    ] {
        assert_eq!(run(&storage, words).ok(), want, "{words:?}");
    }
}

#[test]
fn the_hostname_is_the_images_unless_the_vm_has_a_name() {
    let storage = Storage::new();
    let config = json!({"Hostname": "of-image", "Cmd": ["hostname"]});
    let image = image(&storage, "hostname", config);

    assert_eq!(run(&storage, &[&image]).ok(), "of-image");
    assert_eq!(run(&storage, &["--name", "of-vm", &image]).ok(), "of-vm");
}

#[test]
fn names_of_the_guest_are_provided_where_the_image_has_none() {
    let storage = Storage::new();
    let image = image(&storage, "names", json!({}));
    let vm = Vm::new(&storage, storage.bandsox(&["create", &image, "--name", "web"]).ok());
    vm.start();

    assert_eq!(vm.sh("cat /etc/hostname; hostname"), "web\nweb");
    assert_eq!(vm.sh("grep -w web /etc/hosts"), "127.0.1.1\tweb");
    // Names resolve, and the loopback interface answers.
    for name in ["localhost", "web"] {
        vm.sh(&format!("ping -c 1 -W 10 {name}"));
    }
    assert_eq!(vm.sh("ls /etc/resolv.conf 2>&1 | grep -c 'No such'"), "1");

    // What somebody has written there stays.
    vm.sh("echo '127.0.0.1 mine' > /etc/hosts; sync");
    vm.run("restart", &[]).ok();
    assert_eq!(vm.sh("cat /etc/hosts"), "127.0.0.1 mine");
}
