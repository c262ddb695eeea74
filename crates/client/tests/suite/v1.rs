//! Protocol v1 against an agent that speaks nothing else, written from the protocol's text alone.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::net::UnixStream;

use bandsox_client::v1::{DownloadError, TalkError, UploadError, V1};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::peer::channel_to;

const SIZES: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 300_000, 2_000_000];

/// An agent that knows JSON lines.
struct Lines {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Lines {
    fn new(socket: UnixStream) -> Self {
        let input = BufReader::new(socket.try_clone().expect("a descriptor"));
        Self { input, output: socket }
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.input.read_line(&mut line).expect("the client speaks");
        assert!(line.len() <= 128 * 1024, "a line of {} bytes", line.len());
        if line.is_empty() { Value::Null } else { line.parse().expect("JSON") }
    }

    fn say(&mut self, message: &Value) {
        self.output.write_all(format!("{message}\n").as_bytes()).ok();
    }

    /// Takes one upload; what was uploaded, to where.
    fn take_upload(&mut self) -> (String, Vec<u8>) {
        let upload = self.hear();
        assert_eq!(upload["type"], "upload");
        let path = upload["path"].as_str().expect("a path").to_owned();
        let size = upload["size"].as_u64().expect("a size");
        self.say(&json!({"type": "ready", "path": path}));
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let chunk = self.hear();
            assert_eq!(chunk["type"], "chunk");
            assert_eq!(chunk["offset"], bytes.len());
            let data = STANDARD.decode(chunk["data"].as_str().expect("data")).expect("base64");
            assert_eq!(chunk["size"], data.len());
            assert!(data.len() <= 65_536);
            bytes.extend(data);
            self.say(&json!({"type": "ack", "bytes": bytes.len()}));
        }
        assert_eq!(self.hear(), json!({"type": "verify"}));
        assert_eq!(upload["checksum"], md5(&bytes));
        self.say(&json!({"type": "complete", "size": bytes.len(), "checksum": md5(&bytes)}));
        (path, bytes)
    }

    fn give_download(&mut self, bytes: &[u8]) {
        assert_eq!(self.hear()["type"], "download");
        for (number, chunk) in bytes.chunks(65_536).enumerate() {
            let data = STANDARD.encode(chunk);
            let offset = number * 65_536;
            self.say(
                &json!({"type": "chunk", "data": data, "size": chunk.len(), "offset": offset}),
            );
        }
        self.say(&json!({"type": "complete", "size": bytes.len(), "checksum": md5(bytes)}));
    }
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn noise(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * at / 7) % 251).expect("below 251")).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

fn content(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("rewinds");
    file.read_to_end(&mut bytes).expect("reads");
    bytes
}

#[test]
fn every_size_goes_up_and_down_on_one_channel() {
    let (channel, agent) = channel_to(|socket| {
        let mut lines = Lines::new(socket);
        for _ in SIZES {
            let (path, bytes) = lines.take_upload();
            assert_eq!(path, "/tmp/\u{e4} \"b\"");
            lines.give_download(&bytes);
        }
    });
    let mut v1 = V1::new(&channel);

    for size in SIZES {
        let mut told = 0;
        let sent = noise(size);
        let up = v1.upload(&file_of(&sent), "/tmp/\u{e4} \"b\"", &mut |bytes| told = bytes);
        assert_eq!(up.expect("uploads"), size as u64);
        assert_eq!(told, size as u64);
        let got = tempfile::tempfile().expect("a file");
        let down = v1.download("/tmp/x", &got, &mut |_| ()).expect("downloads");
        assert_eq!(down, size as u64);
        assert!(content(got) == sent, "{size} bytes changed on the way");
    }

    agent.join().expect("the agent met what it expected");
}

#[test]
fn an_agent_that_fails_halfway_is_heard_at_once() {
    let (channel, _agent) = channel_to(|socket| {
        let mut lines = Lines::new(socket);
        lines.hear();
        lines.say(&json!({"type": "ready", "path": "/x"}));
        lines.hear();
        lines.say(&json!({"type": "error", "error": "no space left\u{1b}[2J"}));
        // Reads no more, and does not close either.
        std::thread::park();
    });
    let file = tempfile::tempfile().expect("a file");
    file.set_len(64 << 20).expect("grows");

    let failed = V1::new(&channel).upload(&file, "/x", &mut |_| ()).expect_err("disk full");

    assert_eq!(failed.to_string(), "no space left\\u{1b}[2J");
}

#[test]
fn a_checksum_that_differs_is_named_both_ways() {
    let (channel, _agent) = channel_to(|socket| {
        let mut lines = Lines::new(socket);
        lines.hear();
        lines.say(&json!({"type": "ready", "path": "/x"}));
        lines.hear();
        lines.say(&json!({"type": "ack", "bytes": 1}));
        lines.hear();
        lines.say(&json!({"type": "complete", "size": 1, "checksum": "00"}));
        lines.hear();
        lines.say(&json!({"type": "chunk", "data": "YQ==", "size": 1, "offset": 0}));
        lines.say(&json!({"type": "complete", "size": 1, "checksum": "00"}));
        lines.hear();
    });
    let mut v1 = V1::new(&channel);

    let up = v1.upload(&file_of(b"a"), "/x", &mut |_| ()).expect_err("differs");
    let got = tempfile::tempfile().expect("a file");
    let down = v1.download("/x", &got, &mut |_| ()).expect_err("differs");

    let a = "0cc175b9c0f1b6a831c399e269772661";
    assert_eq!(up.to_string(), format!("Checksum mismatch: expected {a} got 00"));
    assert_eq!(down.to_string(), format!("Checksum mismatch: expected 00 got {a}"));
}

#[test]
fn a_missing_file_fails_at_once_with_the_agents_words() {
    let (channel, _agent) = channel_to(|socket| {
        let mut lines = Lines::new(socket);
        lines.hear();
        lines.say(&json!({"type": "error", "error": "/no/such/file: not found"}));
    });
    let got = tempfile::tempfile().expect("a file");

    let failed = V1::new(&channel).download("/no/such/file", &got, &mut |_| ());

    assert!(
        matches!(&failed, Err(DownloadError::Talk(TalkError::Agent { message }))
            if message.contains("/no/such/file")),
        "{failed:?}"
    );
}

#[test]
fn an_agent_that_lies_in_a_download_is_refused() {
    let big = STANDARD.encode(vec![0; 70_000]);
    let lies = [
        json!({"type": "chunk", "data": "YQ==", "size": 2, "offset": 0}).to_string(),
        json!({"type": "chunk", "data": "YQ==", "size": 1, "offset": 5}).to_string(),
        json!({"type": "chunk", "data": "!!!!", "size": 3, "offset": 0}).to_string(),
        json!({"type": "chunk", "data": big, "size": 70_000, "offset": 0}).to_string(),
        json!({"type": "chunk", "size": 1, "offset": 0}).to_string(),
        json!({"type": "complete", "size": 9, "checksum": ""}).to_string(),
        json!({"type": "ready", "path": "/x"}).to_string(),
        json!({"type": "who knows"}).to_string(),
        "\u{0}\u{1}garbage".to_owned(),
        "x".repeat(200_000),
        "[".repeat(100_000),
    ];
    for lie in lies {
        let shown: String = lie.chars().take(60).collect();
        let (channel, _agent) = channel_to(move |socket| {
            let mut lines = Lines::new(socket);
            lines.hear();
            lines.output.write_all(lie.as_bytes()).ok();
            lines.output.write_all(b"\n").ok();
            lines.hear();
        });
        let got = tempfile::tempfile().expect("a file");

        let refused = V1::new(&channel).download("/x", &got, &mut |_| ());

        assert!(refused.is_err(), "{shown} was believed");
        assert!(content(got).len() <= 1, "{shown} was written");
    }
}

#[test]
fn an_agent_that_confirms_more_than_was_sent_is_refused() {
    for bytes in [0_u64, 2, u64::MAX] {
        let (channel, _agent) = channel_to(move |socket| {
            let mut lines = Lines::new(socket);
            lines.hear();
            lines.say(&json!({"type": "ready", "path": "/x"}));
            lines.hear();
            lines.say(&json!({"type": "ack", "bytes": bytes}));
            lines.hear();
        });

        let refused = V1::new(&channel).upload(&file_of(b"a"), "/x", &mut |_| ());

        assert!(
            matches!(refused, Err(UploadError::Talk(TalkError::OutOfPlace { .. }))),
            "{bytes}: {refused:?}"
        );
    }
}
