//! A reader of streams that is not ours: Python with a decoder of CBOR, and a validator of JSON Schema.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the script says of a stream, and whether it was content.
pub(crate) fn python(stream: &[u8]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vmstream/tests/format/read.py");
    let lines = std::fs::read_to_string(&script).expect("the script").lines().count();
    assert!(lines <= 50, "a reader is short");
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
