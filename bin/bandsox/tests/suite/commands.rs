//! Commands that need no guest: what they print, where, and how they exit.

use std::fs;

use bandsox_store::{Create, Store};
use serde_json::{Value, json};

use crate::bed::{Bed, bandsox, outcome};

#[test]
fn an_empty_storage_has_no_vms() {
    let dir = tempfile::tempdir().expect("a directory");
    Store::open(dir.path(), Create::Yes).expect("opens");
    let list = |args: &[&str]| outcome(bandsox().arg("--storage").arg(dir.path()).args(args));

    assert_eq!(list(&["list"]), (Some(0), "No VMs found.\n".into(), String::new()));
    assert_eq!(list(&["ls", "-o", "json"]), (Some(0), "[]\n".into(), String::new()));
    assert_eq!(list(&["ps", "-q"]), (Some(0), String::new(), String::new()));
}

#[test]
fn a_storage_that_is_not_there_is_named_with_the_remedy() {
    for args in [&["list"][..], &["start", "web"], &["create", "/x"]] {
        let command = &mut bandsox();
        let (code, out, err) = outcome(command.env("BANDSOX_STORAGE", "/proc/nowhere").args(args));

        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(err.contains("/proc/nowhere") && err.contains("--storage"), "{err}");
    }
}

#[test]
fn usage_errors_are_2_and_failures_before_the_guest_are_125() {
    let bed = Bed::new();
    for (args, wanted) in [
        (&[][..], 2),
        (&["frobnicate"], 2),
        (&["exec", "web"], 2),
        (&["exec", "web", "--timeout", "-1", "--", "true"], 2),
        (&["exec", "web", "--session", "xyz", "--", "true"], 2),
        (&["create", "--vcpu", "0", "/x"], 2),
        (&["upload", "web", "a"], 2),
        (&["exec", "nobody", "--", "true"], 125),
        (&["run", "/nowhere.ext4", "--", "true"], 125),
        (&["terminal", "nobody"], 125),
        (&["start", "nobody"], 1),
        (&["create", "--engine", "kvm", "/x"], 1),
        (&["cp", "a", "b"], 1),
        (&["cp", "web:/a", "web:/b"], 1),
    ] {
        let (code, out, err) = outcome(&mut bed.bandsox(args));

        assert_eq!((code, out.as_str()), (Some(wanted), ""), "{args:?}: {err}");
        assert!(!err.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn a_failure_is_one_chain_and_one_hint() {
    let bed = Bed::new();

    let (_, _, err) = outcome(&mut bed.bandsox(&["start", "nobody"]));

    insta::assert_snapshot!(err, @r#"
    error: there is no VM "nobody"
    hint: `bandsox list` shows all VMs
    "#);
}

#[test]
fn a_failure_in_json_is_one_object_a_line() {
    let bed = Bed::new();

    let (_, _, err) = outcome(&mut bed.bandsox(&["--log-format", "json", "start", "nobody"]));

    let mut told: Value = serde_json::from_str(&err).expect("one object");
    assert!(told["timestamp"].take().is_string());
    assert_eq!(
        told,
        json!({
            "timestamp": null,
            "level": "ERROR",
            "message": "there is no VM \"nobody\"",
            "hint": "`bandsox list` shows all VMs",
        })
    );
}

#[test]
fn the_list_is_a_table_and_whatever_metadata_hold_stays_in_its_cell() {
    let bed = Bed::new();
    let old = json!({
        "id": "feedc0ffee00", "name": "evil\u{1b}[2J\nname", "image": "a\tb", "status": "stopped",
    });
    fs::write(bed.path("storage/metadata/feedc0ffee00.json"), old.to_string()).expect("written");
    fs::write(bed.path("storage/metadata/baad.json"), "{").expect("written");

    let (code, out, err) = outcome(&mut bed.bandsox(&["list"]));

    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "NAME", "IMAGE", "STATUS", "CID", "PORT", "VCPU", "MEM", "CREATED"]
    );
    assert!(out.contains("0123456789ab") && out.contains("rootfs.ext4"), "{out}");
    let damaged = lines.iter().find(|line| line.starts_with("baad")).expect("it is listed");
    assert!(damaged.contains("damaged"), "{out}");
    assert!(err.contains("baad.json"), "{err}");
    let (_, out, _) = outcome(&mut bed.bandsox(&["list", "-o", "json"]));
    let rows: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "{rows}");
}

#[test]
fn inspect_keeps_what_it_does_not_know() {
    let bed = Bed::new();
    let path = bed.path("storage/metadata/0123456789ab.json");
    let text = fs::read_to_string(&path).expect("there").replace("\"mcp\":null", "\"mine\":[1]");
    fs::write(&path, text).expect("written");

    let (code, out, err) = outcome(&mut bed.bandsox(&["inspect", "web"]));

    assert_eq!(code, Some(0), "{err}");
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&shown["mine"], &shown["status"]), (&json!([1]), &json!("created")));
}

#[test]
fn several_vms_are_all_tried() {
    let bed = Bed::new();

    let (code, _, err) = outcome(&mut bed.bandsox(&["rm", "nobody", "web", "nothing"]));

    assert_eq!(code, Some(1));
    assert!(err.contains("nobody") && err.contains("Removed web") && err.contains("nothing"));
    let (_, out, _) = outcome(&mut bed.bandsox(&["list"]));
    assert_eq!(out, "No VMs found.\n");
}

#[test]
fn color_is_for_terminals_that_want_it() {
    let bed = Bed::new();
    let on_terminal = |extra: &str| {
        let storage = bed.path("storage");
        let program = env!("CARGO_BIN_EXE_bandsox");
        let line = format!("{extra} '{program}' --storage '{}' start nobody", storage.display());
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR");
        outcome(script.stdin(std::process::Stdio::null())).1
    };

    assert!(on_terminal("").contains("\u{1b}["));
    assert!(!on_terminal("NO_COLOR=1").contains("\u{1b}["));
    assert!(!outcome(&mut bed.bandsox(&["start", "nobody"])).2.contains("\u{1b}["));
}

#[test]
fn logs_show_the_last_lines() {
    let bed = Bed::new();
    let dir = bed.path("storage/logs/0123456789ab");
    fs::create_dir_all(&dir).expect("created");
    fs::write(dir.join("console.log.1"), "one\ntwo\n").expect("written");
    fs::write(dir.join("console.log"), "three\nfo\u{1b}ur").expect("written");
    let logs = |args: &[&str]| outcome(bed.bandsox(&["logs", "web"]).args(args)).1;

    assert_eq!(logs(&[]), "one\ntwo\nthree\nfo\u{1b}ur");
    assert_eq!(logs(&["--tail", "2"]), "three\nfo\u{1b}ur");
    assert_eq!(logs(&["-n", "0"]), "");
    assert_eq!(logs(&["-f", "-n", "3"]), "two\nthree\nfo\u{1b}ur", "a VM that does not run");
}

#[test]
fn doctor_fails_without_a_storage_and_says_what_to_do() {
    let (code, out, _) = outcome(bandsox().args(["doctor", "-o", "json", "--storage", "/nowhere"]));

    assert_eq!(code, Some(1));
    let findings: Value = serde_json::from_str(&out).expect("JSON");
    let storage = findings.as_array().and_then(|all| all.first()).expect("a finding");
    assert_eq!((&storage["name"], &storage["status"]), (&json!("storage"), &json!("fail")));
    for finding in findings.as_array().expect("an array") {
        let wants_remedy = finding["status"] != "ok";
        assert_eq!(finding["remedy"].is_string(), wants_remedy, "{finding}");
    }
}
