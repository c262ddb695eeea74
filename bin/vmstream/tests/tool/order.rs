//! What `convert` keeps, and where.

use serde_json::Value as Json;

use crate::bed::Bed;

/// The kinds of a stream's frames, in order, neighbours of one kind once; those that a form has in its own way left out.
fn order(bed: &Bed, name: &str) -> Vec<String> {
    let text = bed.run(&["json", name]).ok().out;
    let lines = text.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
    let mut kinds: Vec<String> = lines
        .filter_map(|line| {
            let kind = line["kind"].as_str()?;
            let provisional = if line["provisional"] == true { " early" } else { "" };
            let memory = ["pages", "ram", "checksums", "disk", "pad", "index", "tail"];
            (!memory.contains(&kind)).then(|| format!("{kind}{provisional}"))
        })
        .collect();
    kinds.dedup();
    kinds
}

#[test]
fn provisional_records_and_notes_keep_their_order() {
    let bed = Bed::new();
    let kept = order(&bed, "vm");
    assert_eq!(
        kept,
        ["hello", "schema", "manifest", "device early", "note", "switch", "device", "finish"]
    );

    for form in ["sequential", "mappable"] {
        bed.run(&["convert", "vm", "--to", form, "-o", form]).ok();
        bed.run(&["convert", form, "--to", "sequential", "-o", "again"]).ok();
        assert_eq!(order(&bed, form), kept, "{form}");
        assert_eq!(order(&bed, "again"), kept, "{form} and back");
        let text = bed.run(&["json", form]).ok().out;
        assert!(text.contains("toy.note"), "{form}: with what it says");
    }
}

#[test]
fn passes_over_memory_keep_their_epochs_in_a_sequential_stream() {
    let bed = Bed::new();
    bed.run(&["convert", "vm", "--to", "sequential", "-o", "stream"]).ok();

    let epochs = |name| {
        let text = bed.run(&["json", name]).ok().out;
        let lines = text.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
        let pages = lines.filter(|line| line["kind"] == "pages" || line["kind"] == "switch");
        pages.map(|line| line["epoch"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(epochs("stream")[..3], epochs("vm")[..3]);
    assert_eq!(epochs("stream").last(), epochs("vm").last());
}

#[test]
fn pages_are_stored_as_it_is_asked_for() {
    let bed = Bed::new();
    for encoding in ["raw", "lz4", "zstd"] {
        let words = ["convert", "vm", "--to", "sequential", "--encoding", encoding, "-o", "out"];
        bed.run(&words).ok();
        let text = bed.run(&["json", "out"]).ok().out;
        let pages = text.lines().filter(|line| line.contains("\"kind\":\"pages\""));
        let word = format!("\"encoding\":\"{encoding}\"");
        assert!(pages.clone().any(|line| line.contains(&word)), "{encoding}");
        assert_eq!(bed.run(&["diff", "vm", "out"]).ok().out, "", "{encoding}");
    }
}

#[test]
fn a_stream_of_qemus_keeps_what_its_way_back_needs() {
    let bed = Bed::new();
    let bytes = crate::qemu::capture(&bed, "100_microvm_S");
    bed.run(&["convert", "100_microvm_S.mig", "--to", "sequential", "-o", "ours"]).ok();

    let words = ["convert", "ours", "--to", "sequential", "--encoding", "zstd", "-o", "packed"];
    bed.run(&words).ok();
    bed.run(&["convert", "packed", "--to", "qemu", "-o", "back"]).ok();
    assert!(bed.read("back") == bytes, "byte for byte");

    bed.run(&["convert", "100_microvm_S.mig", "--to", "mappable", "-o", "file"]).ok();
    assert_eq!(bed.run(&["get", "file", "cpu.env.eip"]).ok().out, "65520\n");
    bed.run(&["convert", "file", "--to", "qemu-precopy", "-o", "precopy"]).ok();
    assert_eq!(bed.run(&["diff", "precopy", "ours"]).ok().out, "");
    let precopy = bed.run(&["get", "precopy", "machine#type"]).ok().out;
    assert_eq!(precopy, "microvm\n", "with the configuration that QEMU looks for first");
}
