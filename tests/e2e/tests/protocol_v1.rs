//! Protocol v1, spoken by a client that was written from `docs/formats/protocol-v1.md` and nothing else.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use bandsox_e2e::{Storage, Vm, connect};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use serde_json::{Value, json};

const CHUNK_BYTES: usize = 65_536;

/// One connection to an agent.
struct Client {
    lines: BufReader<UnixStream>,
}

impl Client {
    fn connect(vm: &Vm<'_>) -> Self {
        let port = vm.metadata()["vsock_config"]["port"].as_u64().expect("it runs");
        let stream =
            connect(&vm.sockets(), u32::try_from(port).expect("a port")).expect("it listens");
        Self { lines: BufReader::new(stream) }
    }

    fn say(&mut self, message: &Value) {
        self.lines.get_mut().write_all(format!("{message}\n").as_bytes()).expect("it listens");
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        self.hear()
    }

    /// Uploads with a checksum that need not be right; the agent's last word.
    fn upload(&mut self, path: &str, bytes: &[u8], checksum: &str) -> Value {
        let upload =
            json!({ "type": "upload", "path": path, "size": bytes.len(), "checksum": checksum });
        let ready = self.ask(&upload);
        if ready["type"] != "ready" {
            return ready;
        }
        assert_eq!(ready["path"], path);
        let mut offset = 0;
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let data = BASE64_STANDARD.encode(chunk);
            let ack = self.ask(
                &json!({ "type": "chunk", "data": data, "size": chunk.len(), "offset": offset }),
            );
            offset += chunk.len();
            assert_eq!(ack, json!({ "type": "ack", "bytes": offset }));
        }
        self.ask(&json!({ "type": "verify" }))
    }

    fn download(&mut self, path: &str) -> Result<Vec<u8>, Value> {
        self.say(&json!({ "type": "download", "path": path }));
        let mut bytes = Vec::new();
        loop {
            let message = self.hear();
            match message["type"].as_str() {
                Some("chunk") => {
                    let data = BASE64_STANDARD
                        .decode(message["data"].as_str().expect("text"))
                        .expect("base64");
                    assert_eq!(message["offset"], bytes.len());
                    assert_eq!(message["size"], data.len());
                    assert!(data.len() <= CHUNK_BYTES);
                    bytes.extend(data);
                }
                Some("complete") => {
                    assert_eq!(message["size"], bytes.len());
                    assert_eq!(message["checksum"], md5(&bytes));
                    return Ok(bytes);
                }
                Some(_) | None => return Err(message),
            }
        }
    }
}

#[test]
fn files_of_every_size_go_both_ways_on_one_connection() {
    let storage = Storage::new();
    let vm = storage.started("v1");
    let mut client = Client::connect(&vm);

    for size in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        let bytes: Vec<u8> =
            (0..size).map(|at: usize| u8::try_from(at % 241).expect("below")).collect();
        let complete = client.upload("/tmp/v1", &bytes, &md5(&bytes));
        assert_eq!(complete, json!({ "type": "complete", "size": size, "checksum": md5(&bytes) }));
        assert!(client.download("/tmp/v1").expect("uploaded") == bytes, "{size}");
    }
}

#[test]
fn a_wrong_checksum_is_named_and_leaves_the_old_file() {
    let storage = Storage::new();
    let vm = storage.started("checksum");
    let mut client = Client::connect(&vm);
    vm.sh("echo old > /tmp/v1");
    let wrong = "0".repeat(32);

    let answer = client.upload("/tmp/v1", b"new", &wrong);

    let expected = format!("Checksum mismatch: expected {wrong}, got {}", md5(b"new"));
    assert_eq!(answer["type"], "error");
    let error = answer["error"].as_str().expect("text");
    assert!(
        error.starts_with("Checksum mismatch: expected ") && error.contains(&md5(b"new")),
        "{error}; like {expected}"
    );
    assert_eq!(vm.sh("cat /tmp/v1; ls -A /tmp"), "old\nv1");
    // The connection serves on.
    assert_eq!(client.download("/tmp/v1").expect("there"), b"old\n");
}

#[test]
fn what_is_wrong_is_answered_with_an_error_and_hurts_nobody() {
    let storage = Storage::new();
    let vm = storage.started("wrong");

    let error = Client::connect(&vm).download("/no/such/file").expect_err("it is missing");
    assert_eq!(error["type"], "error");
    assert!(error["error"].as_str().expect("text").contains("/no/such/file"), "{error}");
    let error = Client::connect(&vm).upload("/no/dir/file", b"x", &md5(b"x"));
    assert_eq!(error["type"], "error");

    for nonsense in [
        json!({ "type": "frobnicate" }),
        json!({ "type": "upload" }),
        json!({ "type": "upload", "path": "/tmp/x", "size": -1, "checksum": "x" }),
        json!({ "type": "chunk", "data": "AAAA", "size": 3, "offset": 0 }),
        json!({ "type": "verify" }),
        json!({}),
    ] {
        let answer = Client::connect(&vm).ask(&nonsense);
        assert_eq!(answer["type"], "error", "to {nonsense}: {answer}");
    }
    for chunk in [
        json!({ "type": "chunk", "data": "AAAA", "size": 4, "offset": 0 }),
        json!({ "type": "chunk", "data": "AAAA", "size": 3, "offset": 1 }),
        json!({ "type": "chunk", "data": "!!!!", "size": 3, "offset": 0 }),
        json!({ "type": "chunk", "data": "AAAAAAAA", "size": 6, "offset": 0 }),
    ] {
        let mut client = Client::connect(&vm);
        client.ask(
            &json!({ "type": "upload", "path": "/tmp/x", "size": 3, "checksum": md5(&[0; 3]) }),
        );
        let answer = client.ask(&chunk);
        assert_eq!(answer["type"], "error", "to {chunk}: {answer}");
    }
    // A line without end is cut off, not collected.
    let mut endless = Client::connect(&vm);
    let flood = vec![b'{'; 1 << 20];
    for _ in 0..64 {
        if endless.lines.get_mut().write_all(&flood).is_err() {
            break;
        }
    }
    assert_eq!(vm.sh("ls -A /tmp"), "");
    let free = vm.sh("grep MemAvailable /proc/meminfo");
    assert!(
        free.split_whitespace()
            .nth(1)
            .is_some_and(|kb| kb.parse::<u64>().is_ok_and(|kb| kb > 20_000)),
        "{free}"
    );
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
