//! QEMU's own streams, which every command takes as it takes ours.

use std::path::Path;
use std::process::Command;

use crate::bed::Bed;

/// A real stream of a paused machine, in the bed as `name.mig`.
pub(crate) fn capture(bed: &Bed, name: &str) -> Vec<u8> {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/vmstream-qemu/tests/fixtures");
    let packed = fixtures.join(format!("{name}.mig.zst"));
    let out = Command::new("zstd").arg("-dc").arg(packed).output().expect("zstd runs");
    assert!(out.status.success(), "{name} is a fixture");
    bed.write(&format!("{name}.mig"), &out.stdout);
    out.stdout
}

#[test]
fn every_command_reads_qemus_stream() {
    let bed = Bed::new();
    for name in ["72_q35_S", "100_microvm_S"] {
        let bytes = capture(&bed, name);
        let file = format!("{name}.mig");

        assert!(bed.run(&["inspect", &file]).ok().out.contains("pc.bios"), "{name}");
        assert_eq!(bed.run(&["get", &file, "cpu.env.eip"]).ok().out, "65520\n", "{name}");
        assert!(bed.run(&["tree", &file]).ok().out.contains("cpu"), "{name}");
        bed.run(&["verify", &file]).ok();
        bed.run(&["report", &file, "-o", "out.html"]).ok();
        assert_eq!(bed.run(&["diff", &file, &file]).code, Some(0), "{name}");
        // From a pipe too.
        bed.run_with(&["verify", "-"], &bytes).ok();
        // Cut off, it is explained by where and what.
        let cut = bed.run_with(&["verify", "-"], &bytes[..bytes.len() / 2]);
        assert_eq!(cut.code, Some(2), "{}", cut.err);
        assert!(cut.err.contains("byte"), "{}", cut.err);
    }
}

#[test]
fn a_stream_without_a_description_is_explained_by_anothers() {
    let bed = Bed::new();
    for name in ["72_q35_S", "100_microvm_S"] {
        let bytes = capture(&bed, name);
        let end = bytes.windows(2).rposition(|two| two == [0x00, 0x06]).expect("a description");
        bed.write("bare.mig", &bytes[..=end]);
        let (whole, said_by) = (format!("{name}.mig"), format!("--described-by={name}.mig"));

        let alone = bed.run(&["tree", "bare.mig"]).ok().out;
        assert!(alone.contains("opaque"), "{name}: nothing says what is in there");
        assert_eq!(bed.run(&["get", "bare.mig", "cpu.env.eip"]).code, Some(1), "{name}");

        let told = bed.run(&["tree", &whole]).ok().out;
        assert!(!told.contains("opaque"), "{name}");
        assert_eq!(bed.run(&["tree", "bare.mig", &said_by]).ok().out, told, "{name}");
        assert_eq!(bed.run(&["get", "bare.mig", "cpu.env.eip", &said_by]).ok().out, "65520\n");
        bed.run(&["diff", "bare.mig", &whole, &said_by]).ok();
        bed.run(&["convert", "bare.mig", &said_by, "--to", "sequential", "-o", "ours"]).ok();
        assert_eq!(bed.run(&["tree", "ours"]).ok().out, told, "{name}");
        bed.run(&["convert", "ours", "--to", "qemu", "-o", "back.mig"]).ok();
        assert!(bed.read("back.mig") == bytes[..=end], "{name}: the same bytes");
    }
}

#[test]
fn who_describes_nothing_is_refused() {
    let bed = Bed::new();
    let bytes = capture(&bed, "100_microvm_S");
    let end = bytes.windows(2).rposition(|two| two == [0x00, 0x06]).expect("a description");
    bed.write("bare.mig", &bytes[..=end]);
    bed.write("text", b"no stream at all");
    for (by, why) in [
        ("bare.mig", "bare.mig has no description"),
        ("text", "text: it is no stream of QEMU's"),
        ("nowhere", "nowhere: No such file"),
    ] {
        let run = bed.run(&["tree", "100_microvm_S.mig", "--described-by", by]);
        assert_eq!(run.code, Some(2), "{}", run.err);
        assert!(run.err.contains(why), "{}", run.err);
    }
}

#[test]
fn qemus_stream_becomes_a_file_that_can_be_mapped() {
    let bed = Bed::new();
    for name in ["72_q35_S", "100_microvm_S"] {
        capture(&bed, name);
        let file = format!("{name}.mig");

        bed.run(&["convert", &file, "--to", "mappable", "-o", "file"]).ok();

        bed.run(&["verify", "file"]).ok();
        assert_eq!(bed.run(&["get", "file", "cpu.env.eip"]).ok().out, "65520\n", "{name}");
        bed.run(&["diff", &file, "file"]).ok();
    }
}

#[test]
fn through_ours_and_json_qemus_stream_comes_back_byte_for_byte() {
    let bed = Bed::new();
    for name in ["72_q35_S", "100_microvm_S"] {
        let bytes = capture(&bed, name);
        bed.run(&["convert", &format!("{name}.mig"), "--to", "sequential", "-o", "ours"]).ok();
        let json = bed.run(&["json", "ours"]).ok().out;
        bed.write("text", json.as_bytes());
        bed.run(&["from-json", "text", "-o", "again"]).ok();

        bed.run(&["convert", "again", "--to", "qemu", "-o", "back"]).ok();

        assert!(bed.read("back") == bytes, "{name}");
        bed.run(&["convert", "ours", "--to", "qemu-precopy", "-o", "precopy"]).ok();
        bed.run(&["verify", "precopy"]).ok();
    }
}
