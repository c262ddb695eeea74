//! Contracts: of streams, and of a QEMU.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::Bed;

#[test]
fn check_says_every_reason_and_refuses() {
    let bed = Bed::new();
    let text = bed.run(&["json", "vm"]).ok().out;
    let edited = text.replacen("\"attribute\":\"vcpus\",\"policy\":\"exact\",\"value\":2", "", 0);
    let edited =
        edited.replace("\"value\":2", "\"value\":3").replace("[\"sse2\",\"avx\"]", "[\"sse2\"]");
    bed.run_with(&["from-json", "-", "-o", "other"], edited.as_bytes()).ok();

    assert_eq!(bed.run(&["check", "vm", "--against", "vm"]).ok().out, "accepted\n");
    let refused = bed.run(&["check", "vm", "--against", "other"]).fails(1).out;
    assert_eq!(
        refused,
        "value-differs machine#vcpus: source has 2, destination has 3 (--vcpus)\n\
         not-a-subset cpu#features: source has [\"sse2\", \"avx\"], destination has [\"sse2\"]; \
         the destination lacks [\"avx\"]\nrefused\n"
    );
    let programs =
        bed.run_with(&["check", "-", "--against", "other", "-o", "json"], &bed.read("vm"));
    assert_eq!(programs.fails(1).json()["refusals"][0]["code"], "value-differs");
    bed.run(&["check", "-", "--against", "-"]).fails(1);
}

/// The sample with another contract: what of each attribute is changed, by name.
fn contracted(bed: &Bed, name: &str, edit: impl Fn(&str, &mut serde_json::Value)) {
    let text = bed.run(&["json", "vm"]).ok().out;
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let contract = line.pointer_mut("/payload/contract").and_then(|each| each.as_array_mut());
        for each in contract.into_iter().flatten() {
            let name = each["attribute"].as_str().expect("a name").to_owned();
            edit(&name, each);
        }
        line.as_object_mut().expect("an object").remove("packed");
        lines.extend(line.to_string().into_bytes());
        lines.push(b'\n');
    }
    bed.run_with(&["from-json", "-", "-o", name], &lines).ok();
}

#[test]
fn check_shows_consequences_and_harmless_differences_to_those_who_ask() {
    let bed = Bed::new();
    let change = |name: &str, each: &mut serde_json::Value, other: bool| match name {
        "vcpus" if other => each["value"] = 3.into(),
        "memory" => {
            each["follows"] = serde_json::json!(["machine#vcpus"]);
            if other {
                each["value"] = 1.into();
            }
        }
        "features" => {
            each["policy"] = "informational".into();
            if other {
                each["value"] = serde_json::json!(["sse2"]);
            }
        }
        _ => {}
    };
    contracted(&bed, "source", |name, each| change(name, each, false));
    contracted(&bed, "destination", |name, each| change(name, each, true));
    let words = ["check", "source", "--against", "destination"];
    let refusal = "value-differs machine#vcpus: source has 2, destination has 3 (--vcpus)\n";

    let short = bed.run(&words).fails(1).out;
    assert_eq!(short, format!("{refusal}and 1 that follow from it\nrefused\n"));
    for verbose in ["-v", "--verbose"] {
        let long = bed.run(&[&words[..], &[verbose]].concat()).fails(1).out;
        let follows = "  follows: value-differs machine#memory: source has 327680, destination has 1; \
            it follows machine#vcpus, which is 2 at the source and 3 at the destination\n";
        let harmless = "harmless: value-differs cpu#features: source has [\"sse2\", \"avx\"], destination has [\"sse2\"]\n";
        assert_eq!(long, format!("{refusal}{follows}{harmless}refused\n"));
    }
    let json = bed.run(&[&words[..], &["-o", "json"]].concat()).fails(1).json();
    let paths = |list: &str| {
        let list = json[list].as_array().expect("a list");
        list.iter().map(|each| each["path"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(json["accepted"], false);
    assert_eq!(paths("refusals"), ["machine#vcpus"]);
    assert_eq!(paths("consequences"), ["machine#memory"]);
    assert_eq!(paths("remarks"), ["cpu#features"]);
    assert_eq!(json["consequences"][0]["source"], 327_680);

    // What nobody asked for is not shown where it is all that there is.
    contracted(&bed, "harmless", |name, each| change(name, each, name == "features"));
    let words = ["check", "source", "--against", "harmless"];
    assert_eq!(bed.run(&words).ok().out, "accepted\n");
    let long = bed.run(&[&words[..], &["-v"]].concat()).ok().out;
    assert!(long.starts_with("harmless: ") && long.ends_with("accepted\n"), "{long}");
}

/// A QEMU that ends with this value.
pub(crate) struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn qemu(bed: &Bed, name: &str, more: &[&str]) -> Qemu {
    let socket = bed.path(name);
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-S", "-accel", "tcg", "-display", "none"]);
    command.args(["-machine", "pc-i440fx-7.2", "-m", "64", "-device", "virtio-rng-pci,addr=4"]);
    command.args(more).args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())]);
    let child = command.stdin(Stdio::null()).spawn().expect("QEMU starts");
    let child = Qemu(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "QEMU listens");
        thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn a_waiting_qemu_is_compared_with_one_that_runs() {
    let bed = Bed::new();
    let _source = qemu(&bed, "source.sock", &["-smp", "1"]);
    let _destination = qemu(&bed, "destination.sock", &["-smp", "2", "-incoming", "defer"]);
    bed.run(&["manifest", "--qmp", "source.sock", "-o", "source"]).ok();
    let destination = bed.run(&["manifest", "--qmp", "destination.sock"]).ok();

    bed.run(&["verify", "source"]).ok();
    assert_eq!(bed.run(&["get", "source", "machine#type"]).ok().out, "pc-i440fx-7.2\n");
    assert_eq!(bed.run(&["get", "source", "pci.0/04.0#device"]).ok().out, "virtio-rng-pci\n");
    assert_eq!(bed.run(&["check", "source", "--against", "source"]).ok().out, "accepted\n");
    let words = ["check", "source", "--against", "-"];
    let refused = bed.run_with(&words, &destination.bytes).fails(1).out;
    let (first, rest) = refused.split_once('\n').expect("a line");
    assert_eq!(first, "value-differs machine#vcpus: source has 1, destination has 2 (-smp)");
    assert!(
        rest.starts_with("and ") && rest.ends_with(" that follow from it\nrefused\n"),
        "{rest}"
    );
    bed.run(&["manifest", "--qmp", "nothing.sock"]).fails(2);
}
