//! An HTTP server that answers as a test tells it to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bandsox_oci::Digest;
use serde_json::{Value, json};

use crate::content::random;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) body: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

/// What is answered.
pub(crate) enum Answer {
    /// Status, further header lines, body.
    Whole(u16, &'static str, Vec<u8>),
    /// As 200, but after so many bytes the connection is closed.
    Cut(Vec<u8>, usize),
    /// As 200, but after so many bytes nothing more comes.
    Stall(Vec<u8>, usize),
    /// As 200, but after so many bytes they come one at a time, far apart.
    Dribble(Vec<u8>, usize),
    /// 206 from the offset on.
    From(Vec<u8>, usize),
}

/// A server until the process ends.
pub(crate) struct Server {
    port: u16,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first byte that is asked for.
    pub(crate) fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("binds");
        let port = listener.local_addr().expect("has an address").port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen) = (Arc::new(handler), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                thread::spawn(move || serve(stream, &*handler, &seen));
            }
        });
        Self { port, log }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What was asked for by now, where `text` is in the path.
    pub(crate) fn asked(&self, text: &str) -> Vec<Request> {
        let log = self.log.lock().expect("locks");
        log.iter().filter(|request| request.path.contains(text)).cloned().collect()
    }
}

fn serve(
    mut stream: TcpStream,
    handler: &dyn Fn(&Request) -> Answer,
    log: &Mutex<Vec<Request>>,
) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        // A client that begins with TLS.
        if !head[0].is_ascii_uppercase() {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(key, value)| (key.to_lowercase(), value.to_owned())).collect();
    let mut request = Request { path, headers, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    log.lock().expect("locks").push(request.clone());
    let send = |stream: &mut TcpStream, status: u16, more: &str, len: usize, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\n{more}Content-Length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    match handler(&request) {
        Answer::Whole(status, more, body) => send(&mut stream, status, more, body.len(), &body),
        Answer::Cut(body, at) => send(&mut stream, 200, "", body.len(), &body[..at]),
        Answer::Stall(body, at) => {
            send(&mut stream, 200, "", body.len(), &body[..at])?;
            // Until the client gives up.
            stream.read_exact(&mut byte).ok()
        }
        Answer::Dribble(body, at) => {
            send(&mut stream, 200, "", body.len(), &body[..at])?;
            for byte in &body[at..] {
                thread::sleep(Duration::from_millis(50));
                stream.write_all(&[*byte]).ok()?;
            }
            Some(())
        }
        Answer::From(body, at) => {
            let range = format!("Content-Range: bytes {at}-{}/{}\r\n", body.len() - 1, body.len());
            send(&mut stream, 206, &range, body.len() - at, &body[at..])
        }
    }
}

/// An image in memory.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) manifest: Value,
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl Fixture {
    /// One of so many layers of so many random bytes.
    pub(crate) fn new(layers: usize, bytes: usize) -> Self {
        let mut blobs: Vec<Vec<u8>> = (0..layers).map(|_| random(bytes)).collect();
        let digests: Vec<Digest> = blobs.iter().map(|blob| Digest::of(blob)).collect();
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": null},
            "rootfs": {"type": "layers", "diff_ids": digests}});
        blobs.insert(0, config.to_string().into_bytes());
        let describe = |kind: &str, blob: &Vec<u8>| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": Digest::of(blob), "size": blob.len()})
        };
        let layers: Vec<Value> =
            blobs.iter().skip(1).map(|blob| describe("layer.v1.tar", blob)).collect();
        let config = describe("config.v1+json", &blobs[0]);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        Self { manifest, blobs }
    }

    /// The layer of this number, from zero.
    pub(crate) fn layer(&self, index: usize) -> &[u8] {
        &self.blobs[index + 1]
    }

    /// Whether `path` asks for the layer of this number.
    pub(crate) fn is_layer(&self, path: &str, index: usize) -> bool {
        path.contains(Digest::of(self.layer(index)).hex())
    }

    /// What a good registry answers.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        if request.path.contains("/manifests/") {
            return Answer::Whole(200, "", self.manifest.to_string().into_bytes());
        }
        let named = |blob: &&Vec<u8>| request.path.contains(Digest::of(blob).hex());
        match (self.blobs.iter().find(named), request.offset()) {
            (Some(blob), 0) => Answer::Whole(200, "", blob.clone()),
            (Some(blob), offset) => Answer::From(blob.clone(), offset),
            (None, _) => Answer::Whole(404, "", Vec::new()),
        }
    }
}
