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
