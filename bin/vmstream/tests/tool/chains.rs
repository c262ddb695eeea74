//! Incremental streams: made, resolved, looked at, and refused without the right parent.

use vmstream::message::{Encoding, Note, PagesBuilder, Switch, SwitchMode};
use vmstream::writer::Finality;
use vmstream::{Value, Writer};

use crate::bed::Bed;
use crate::sample;

/// A machine whose pages, of a region and of its disk, are all of one byte; the others are zero.
fn machine(pages: &[(u32, u64, u8)], disk: &[(u64, u8)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &sample::hello()).expect("a hello");
    let id = writer.schema(&sample::schema()).expect("a schema");
    writer.manifest(&sample::manifest(id)).expect("a manifest");
    for (region, page, byte) in pages {
        let mut builder = PagesBuilder::new(*region, 4096, Encoding::Raw);
        builder.page(*page, &[*byte; 4096]);
        writer.pages(&builder.build().expect("pages")).expect("pages are written");
        writer.next_epoch();
    }
    for (page, byte) in disk {
        let mut builder = PagesBuilder::new(0, 4096, Encoding::Raw);
        builder.page(*page, &[*byte; 4096]);
        writer.disk(&builder.build().expect("pages")).expect("a disk is written");
    }
    let note = Note { name: "toy.note".to_owned(), value: Value::from(7_u8) };
    writer.note(&note).expect("a note is written");
    writer.switch(&Switch { mode: SwitchMode::Stopped }).expect("a switch is written");
    writer.devices(&[sample::record(id)], Finality::Final).expect("a record is written");
    writer.finish().expect("all is there").0
}

/// Three days: `mon`, `tue` and `wed` are whole, `tue.inc` goes on from `mon`, and `wed.inc` from `tue.inc`.
fn days() -> Bed {
    let bed = Bed::new();
    bed.write("mon", &machine(&[(0, 1, 1), (0, 2, 2), (0, 63, 3), (1, 0, 4)], &[(0, 9), (1, 9)]));
    // One page other, one zero, one new, one sent twice and in the end what it was.
    let tuesday = [(0, 1, 1), (0, 2, 22), (1, 0, 9), (1, 0, 4), (1, 15, 5)];
    bed.write("tue", &machine(&tuesday, &[(1, 9), (7, 8)]));
    bed.write("wed", &machine(&[(0, 1, 11), (0, 2, 22), (1, 15, 5)], &[(1, 9)]));
    bed.run(&["convert", "tue", "--to", "incremental", "--parent", "mon", "-o", "tue.inc"]).ok();
    let words = ["convert", "wed", "--to", "incremental", "--parent", "tue.inc", "--parent", "mon"];
    bed.run(&[&words[..], &["--encoding", "lz4", "-o", "wed.inc"]].concat()).ok();
    bed
}

fn of(bed: &Bed, name: &str) -> serde_json::Value {
    bed.run(&["inspect", name, "-o", "json"]).ok().json()
}

#[test]
fn an_incremental_stream_has_only_the_pages_that_differ_and_names_its_parent() {
    let bed = days();
    let (monday, tuesday, wednesday) = (of(&bed, "mon"), of(&bed, "tue.inc"), of(&bed, "wed.inc"));

    assert_eq!(tuesday["parent"], monday["digest"]);
    assert_eq!(tuesday["parent_name"], "mon");
    assert_eq!(wednesday["parent"], tuesday["digest"]);
    let pages =
        |stream: &serde_json::Value, region: usize| stream["memory"][region]["pages"].clone();
    let counts = |data: u64, zero: u64| serde_json::json!({"data": data, "zero": zero, "same": 0, "absent": 0});
    assert_eq!((pages(&tuesday, 0), pages(&tuesday, 1)), (counts(1, 1), counts(1, 0)));
    assert_eq!((pages(&wednesday, 0), pages(&wednesday, 1)), (counts(1, 0), counts(0, 1)));
}

#[test]
fn a_chain_is_resolved_to_what_the_stream_was() {
    let bed = days();
    let chain = ["--parent", "tue.inc", "--parent", "mon"];

    for form in ["sequential", "mappable"] {
        let words = ["convert", "wed.inc", "--to", form, "-o", form];
        bed.run(&[&words[..], &chain].concat()).ok();
        bed.run(&["verify", form]).ok();
        assert_eq!(bed.run(&["diff", "wed", form]).ok().out, "", "{form}");
        assert_eq!(of(&bed, form)["parent"], serde_json::Value::Null);
        let disk = |name| {
            bed.run(&["convert", name, "--to", "sequential", "-o", "disk"]).ok();
            let text = bed.run(&["json", "disk"]).ok().out;
            let lines = text.lines().filter(|line| line.contains("\"kind\":\"disk\""));
            lines.map(|line| line.matches("09090909").count()).sum::<usize>()
        };
        assert_eq!(disk(form), disk("wed"), "{form}");
    }
    for region in ["low", "high"] {
        bed.run(&["ram", "wed", "--region", region, "-o", "whole"]).ok();
        let words = ["ram", "wed.inc", "--region", region, "-o", "resolved"];
        bed.run(&[&words[..], &chain].concat()).ok();
        assert!(bed.read("whole") == bed.read("resolved"), "{region}");
    }
}

#[test]
fn a_stream_moves_to_another_parent() {
    let bed = days();
    let words = ["convert", "wed.inc", "--parent", "tue.inc", "--parent", "mon"];
    bed.run(&[&words[..], &["--to", "incremental", "-o", "again"]].concat()).ok();
    assert_eq!(of(&bed, "again")["memory"], of(&bed, "wed.inc")["memory"]);

    bed.run(&["convert", "wed", "--to", "incremental", "--parent", "mon", "-o", "two"]).ok();
    let words = ["convert", "two", "--parent", "mon", "--to", "sequential", "-o", "whole"];
    bed.run(&words).ok();
    assert_eq!(bed.run(&["diff", "wed", "whole"]).ok().out, "");
}

#[test]
fn a_wrong_parent_is_refused_by_its_digest_in_one_line() {
    let bed = days();
    let (monday, tuesday) = (of(&bed, "mon"), of(&bed, "tue"));
    let digest = |stream: &serde_json::Value| stream["digest"].as_str().expect("text").to_owned();
    let wanted = format!(
        "error: tue.inc: its parent is stream {}, and tue is {}; K-1: ",
        digest(&monday),
        digest(&tuesday)
    );

    for words in [&["ram", "--region", "low"][..], &["convert", "--to", "sequential"]] {
        let run = |more: &[&str]| {
            let told = bed.run(&[words, &["tue.inc", "-o", "out"], more].concat()).fails(1).err;
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(!bed.path("out").exists());
            told
        };
        let told = run(&["--parent", "tue"]);
        assert!(told.starts_with(&wanted), "{told}");
        // A chain that lacks its end.
        let told = run(&["--parent", "wed.inc"]);
        assert!(told.contains("wed.inc: pages that it lacks are in its parent"), "{told}");
    }
    let told = bed.run(&["ram", "tue.inc", "--region", "low", "-o", "out"]).fails(1).err;
    assert!(told.contains(&format!("stream {} (mon): give that with --parent", digest(&monday))));
    let told = bed.run(&["convert", "tue.inc", "--to", "mappable", "-o", "out"]).fails(1).err;
    assert!(told.contains("(mon): give that with --parent"), "{told}");
    let words = ["convert", "mon", "--to", "sequential", "--parent", "tue", "-o", "out"];
    assert!(bed.run(&words).fails(1).err.contains("it has no parent"));
    let words = ["convert", "vm", "--to", "incremental", "-o", "out"];
    assert!(bed.run(&words).fails(1).err.contains("needs --parent"));
}

#[test]
fn a_parent_of_another_machine_is_refused() {
    let bed = days();
    let text = bed.run(&["json", "mon"]).ok().out.replace("\"bytes\":262144", "\"bytes\":524288");
    bed.run_with(&["from-json", "-", "-o", "larger"], text.as_bytes()).ok();

    let words = ["convert", "tue", "--to", "incremental", "--parent", "larger", "-o", "out"];
    let told = bed.run(&words).fails(1).err;
    assert!(told.starts_with("error: tue: it does not go on from larger: memory: K-2"), "{told}");
}

#[test]
fn what_looks_at_an_incremental_stream_says_that_it_is_one() {
    let bed = days();
    let monday = of(&bed, "mon")["digest"].as_str().expect("text").to_owned();
    let sentence =
        format!("incremental: pages that it lacks are in its parent, stream {monday} (mon)\n");

    assert!(bed.run(&["inspect", "tue.inc"]).ok().out.contains(&sentence));
    assert!(bed.run(&["verify", "tue.inc"]).ok().out.ends_with(&sentence));
    assert_eq!(bed.run(&["verify", "tue.inc", "-o", "json"]).ok().json()["parent"], *monday);
    bed.run(&["report", "tue.inc", "-o", "page"]).ok();
    assert!(String::from_utf8_lossy(&bed.read("page")).contains(sentence.trim_end()));
}

#[test]
fn diff_compares_what_it_can_and_all_of_it_with_the_parents() {
    let bed = days();

    let told = bed.run(&["diff", "tue", "tue.inc"]).fails(1).out;
    let unknown =
        "memory: 77 pages not compared; what they are is in a parent: give it with --parent\n";
    assert_eq!(told, unknown);
    let json = bed.run(&["diff", "tue", "tue.inc", "-o", "json"]).fails(1).json();
    assert_eq!(json["unknown_pages"], 77);
    assert_eq!(bed.run(&["diff", "tue.inc", "tue.inc"]).ok().out, "");
    assert_eq!(bed.run(&["diff", "tue", "tue.inc", "--parent", "mon"]).ok().out, "");
    let words = ["diff", "tue.inc", "wed.inc", "--parent", "tue.inc", "--parent", "mon"];
    let told = bed.run(&words).fails(1).out;
    assert_eq!(told, "memory low: pages 1-1, 1\nmemory high: pages 0-0, 1\n");
}

#[test]
fn an_incremental_stream_of_qemus_is_loaded_as_it_was() {
    let bed = Bed::new();
    for name in ["72_q35_S", "100_microvm_S"] {
        crate::qemu::capture(&bed, name);
        let file = format!("{name}.mig");
        // The same machine: nothing of memory differs.
        bed.run(&["convert", &file, "--to", "sequential", "-o", "whole"]).ok();
        let words = ["convert", &file, "--to", "incremental", "--parent", "whole", "-o", "inc"];
        bed.run(&words).ok();
        assert!(bed.read("inc").len() * 4 < bed.read("whole").len());
        // A parent may be QEMU's own stream, which has the name that it gets as one of ours.
        for parent in ["whole", &file] {
            let words = ["diff", &file, "inc", "--parent", parent];
            assert_eq!(bed.run(&words).ok().out, "", "{name}");
        }

        let words = ["convert", "inc", "--parent", "whole", "--to", "sequential", "-o", "back"];
        bed.run(&words).ok();
        bed.run(&["convert", "back", "--to", "qemu-precopy", "-o", "precopy"]).ok();
        assert_eq!(bed.run(&["diff", &file, "precopy"]).ok().out, "", "{name}");
        let told = bed.run(&["convert", "back", "--to", "qemu", "-o", "out"]).fails(2).err;
        assert!(told.contains("not where QEMU's stream had them"), "{told}");
    }
}
