//! The format by programs that are not ours.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use vmstream::frame::Kind;

use crate::raw::{manifested, switched};
use crate::sample;

/// What the script says of a stream, and whether it was content.
fn python(stream: &[u8]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format/read.py");
    let mut child = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    child.stdin.take().expect("a pipe").write_all(stream).expect("the script reads it all");
    let out = child.wait_with_output().expect("the script ends");
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_generic_decoder_reads_a_whole_stream_and_every_field_of_it() {
    let (content, said) = python(&sample::stream());

    assert!(content, "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with("fifo \"00abff\"")).count(), 2);
    for field in ["irq masked true", "irq vector 33", "serial \"none\"", "armed null", "lines []"] {
        assert!(said.contains(&format!("bus/uart0 {field}\n")), "{said}");
    }
    for kind in ["hello", "schema", "manifest", "pages", "disk", "ram", "checksums", "tail"] {
        assert!(said.contains(&format!(" {kind} ")), "{said}");
    }
}

#[test]
fn a_validator_of_json_schema_refuses_what_we_refuse() {
    let mut record = sample::record(0);
    record.state.insert("divisor", 65_536_u32);

    let (content, said) = python(&switched().records(0, &[record]).out);

    assert!(!content && said.contains("65536 is greater than the maximum of 65535"), "{said}");
    let (content, said) = python(&manifested().frame(Kind::Pad, 0, b"").out);
    assert!(content, "{said}");
}
