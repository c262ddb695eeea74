//! The program by itself: help, versions, completions, the shape of its output.

use bandsox_e2e::{Bed, Run, Storage};

const COMMANDS: [&str; 21] = [
    "init",
    "create",
    "start",
    "stop",
    "restart",
    "pause",
    "resume",
    "rm",
    "rename",
    "list",
    "inspect",
    "logs",
    "exec",
    "terminal",
    "run",
    "upload",
    "download",
    "cp",
    "doctor",
    "cleanup",
    "completion",
];

#[test]
fn every_command_has_help_that_shows_an_example() {
    let bandsox = || Run::new(&Bed::get().bandsox);
    let overview = bandsox().arg("--help").ok();

    for command in COMMANDS {
        assert!(overview.contains(&format!("  {command} ")), "{command} is not listed");
        let help = bandsox().args([command, "--help"]).ok();
        assert!(help.contains("Usage: bandsox"), "{help}");
        assert!(help.contains("xample"), "no example in the help of {command}");
    }
    assert!(bandsox().arg("--version").ok().starts_with("bandsox 4."));
    for shell in ["bash", "zsh", "fish"] {
        let script = bandsox().args(["completion", shell]).ok();
        assert!(script.contains("upload"), "{shell}: {script}");
    }
    let bash = bandsox().args(["completion", "bash"]).output().ok().stdout;
    Run::new("bash").arg("-n").stdin(bash).output().ok();
    bandsox().output().code(2);
    bandsox().arg("frobnicate").output().code(2).refused("frobnicate");
}

#[test]
fn results_are_on_stdout_and_messages_on_stderr() {
    let storage = Storage::new();
    let vm = storage.create("shape");

    let listed = storage.bandsox(&["ls"]).ok();
    assert!(listed.contains("shape") && listed.contains("created"), "{listed}");
    assert_eq!(storage.bandsox(&["ps", "-q"]).ok(), vm.id);
    let row = storage.listed("shape").expect("listed");
    for key in ["id", "name", "image", "status"] {
        assert!(row[key].is_string(), "{key} of {row}");
    }
    let json =
        storage.bandsox(&["-o", "json", "create"]).arg(Bed::get().ext4()).output().ok().json();
    assert!(json["id"].is_string(), "{json}");
    let refused = storage.bandsox(&["start", "nobody"]).output().refused("nobody");
    assert!(refused.stdout.is_empty(), "{refused}");
    // A reader that goes away is not a failure worth a message.
    let quiet = Run::new("bash").arg("-c").arg("set -o pipefail; \"$@\" | true").arg("bash");
    let quiet =
        quiet.arg(storage.program()).arg("--storage").arg(storage.root()).arg("list").output();
    assert!(!quiet.complaint().contains("panicked"), "{quiet}");
}

#[test]
fn bench_measures_a_running_vm() {
    let storage = Storage::new();
    let vm = storage.started("measured");

    let shown = vm.run("bench", &["--size", "4", "--execs", "5"]).ok();

    assert!(shown.contains("MB/s") || shown.contains("MiB/s"), "{shown}");
    assert_eq!(vm.sh("ls -A /tmp"), "");
}
