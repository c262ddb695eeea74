//! Protocol v1, from the guide's text: nothing of the agent's own code is used here but base64 and MD5.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::guest::Guest;

struct Host {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Host {
    fn connect(guest: &Guest) -> Self {
        let stream = guest.raw();
        let lines = BufReader::new(stream.try_clone().expect("clones"));
        Self { stream, lines }
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.stream, "{message}").expect("writes");
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    fn upload(&mut self, path: &str, data: &[u8], checksum: &str) -> Value {
        self.say(
            &json!({"type": "upload", "path": path, "size": data.len(), "checksum": checksum}),
        );
        let answer = self.hear();
        if answer["type"] != "ready" {
            return answer;
        }
        let mut sent = 0;
        for chunk in data.chunks(65_536) {
            let encoded = STANDARD.encode(chunk);
            self.say(
                &json!({"type": "chunk", "data": encoded, "size": chunk.len(), "offset": sent}),
            );
            sent += chunk.len();
            assert_eq!(self.hear(), json!({"type": "ack", "bytes": sent}));
        }
        self.say(&json!({"type": "verify"}));
        self.hear()
    }

    fn download(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.say(&json!({"type": "download", "path": path}));
        let mut data = Vec::new();
        loop {
            let message = self.hear();
            match message["type"].as_str() {
                Some("chunk") => {
                    assert_eq!(message["offset"], data.len());
                    let raw =
                        STANDARD.decode(message["data"].as_str().expect("text")).expect("base64");
                    assert_eq!(message["size"], raw.len());
                    data.extend(raw);
                }
                Some("complete") => {
                    assert_eq!(message["size"], data.len());
                    assert_eq!(message["checksum"], md5_of(&data));
                    return Ok(data);
                }
                _ => return Err(message["error"].as_str().expect("an error").to_owned()),
            }
        }
    }
}

fn md5_of(data: &[u8]) -> String {
    Md5::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(guest: &Guest, name: &str) -> String {
    guest.path(name).to_str().expect("plain").to_owned()
}

#[test]
fn files_of_every_bound_go_there_and_back_on_one_connection() {
    let guest = Guest::start();
    let path = text(&guest, "file");
    let mut host = Host::connect(&guest);
    for len in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        let data: Vec<u8> = (0..=250_u8).cycle().take(len).collect();

        let answer = host.upload(&path, &data, &md5_of(&data));

        assert_eq!(answer, json!({"type": "complete", "size": len, "checksum": md5_of(&data)}));
        assert!(fs::read(&path).expect("reads") == data, "{len} bytes");
        assert!(host.download(&path).expect("sent") == data, "{len} bytes");
    }
}

#[test]
fn a_wrong_checksum_leaves_the_old_file_and_the_connection() {
    let guest = Guest::start();
    let path = text(&guest, "file");
    fs::write(&path, b"old").expect("writes");
    let mut host = Host::connect(&guest);

    let answer = host.upload(&path, b"new", "0123456789abcdef0123456789abcdef");

    let error = format!(
        "Checksum mismatch: expected 0123456789abcdef0123456789abcdef got {}",
        md5_of(b"new")
    );
    assert_eq!(answer, json!({"type": "error", "error": error}));
    assert_eq!(host.download(&path).expect("sent"), b"old");
    assert_eq!(fs::read_dir(guest.dir.path()).expect("a directory").count(), 2);
}

#[test]
fn an_upper_case_checksum_is_the_same_number() {
    let guest = Guest::start();
    let mut host = Host::connect(&guest);

    let answer = host.upload(&text(&guest, "file"), b"x", &md5_of(b"x").to_uppercase());

    assert_eq!(answer["type"], "complete");
}

#[test]
fn what_is_missing_fails_at_once() {
    let guest = Guest::start();
    let mut host = Host::connect(&guest);

    let error = host.download("/no/such/file").expect_err("not there");
    assert_eq!(error, "cannot open /no/such/file: No such file or directory (os error 2)");
    let answer = host.upload("/no/such/dir/file", b"x", &md5_of(b"x"));
    assert_eq!(answer["type"], "error");
    let error = host.download("/tmp").expect_err("a directory");
    assert_eq!(error, "/tmp is a directory");
}

#[test]
fn chunks_that_lie_are_refused() {
    let guest = Guest::start();
    let path = text(&guest, "file");
    let begin = json!({"type": "upload", "path": path, "size": 3, "checksum": md5_of(b"abc")});
    for (bad, why) in [
        (
            json!({"type": "chunk", "data": "YWJj", "size": 4, "offset": 0}),
            "chunk says 4 bytes and holds 3",
        ),
        (
            json!({"type": "chunk", "data": "YWJj", "size": 3, "offset": 1}),
            "chunk is at offset 1, expected 0",
        ),
        (json!({"type": "chunk", "data": "YW Jj", "size": 3, "offset": 0}), "chunk is not base64"),
        (
            json!({"type": "chunk", "data": "YWJjZA==", "size": 4, "offset": 0}),
            "received 4 bytes, expected 3",
        ),
        (json!({"type": "verify"}), "received 0 bytes, expected 3"),
        (json!({"type": "ack", "bytes": 3}), "expected chunk or verify"),
        (json!({"type": "dance"}), "message type \"dance\" is unknown"),
    ] {
        let mut host = Host::connect(&guest);
        host.say(&begin);
        assert_eq!(host.hear()["type"], "ready");

        host.say(&bad);

        assert_eq!(host.hear(), json!({"type": "error", "error": why}));
        assert!(!guest.path("file").exists());
        // Late pieces of the upload that failed are passed over.
        host.say(&json!({"type": "chunk", "data": "YWJj", "size": 3, "offset": 0}));
        host.say(&json!({"type": "verify"}));
        assert!(host.download("/proc/version").is_ok());
    }
}

#[test]
fn an_upload_keeps_the_mode_of_the_file_it_replaces() {
    use std::os::unix::fs::PermissionsExt;
    let guest = Guest::start();
    let path = text(&guest, "file");
    fs::write(&path, b"old").expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("modes");

    Host::connect(&guest).upload(&path, b"new", &md5_of(b"new"));

    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o750);
}

#[test]
fn an_agent_of_v1_alone_does_not_answer_v2() {
    let guest = Guest::with(&["--protocols", "1"]);
    let mut v2 = guest.raw();
    v2.write_all(b"BSX2\x02\x00").expect("writes");
    assert_eq!(std::io::Read::read(&mut v2, &mut [0]).unwrap_or(0), 0);

    let mut host = Host::connect(&guest);
    let path = text(&guest, "file");
    assert_eq!(host.upload(&path, b"x", &md5_of(b"x"))["type"], "complete");
}
