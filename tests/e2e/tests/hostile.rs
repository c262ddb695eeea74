//! An agent that lies. Nothing is written outside the target, memory stays bounded, the command ends by itself.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use bandsox_e2e::{FakeMonitor, Process, Storage, Vm, connect};
use minicbor::Encoder;
use xxhash_rust::xxh64::xxh64;

const FILE: u32 = 0;
const DIR: u32 = 1;
const SYMLINK: u32 = 2;

/// Bytes of protocol v2 as an agent sends them, right or wrong.
#[derive(Clone, Default)]
struct Script(Vec<u8>);

impl Script {
    fn new() -> Self {
        Self(b"BSX2\x02\x02".to_vec())
    }

    fn frame(mut self, kind: u8, payload: &[u8]) -> Self {
        self.0.extend(u32::try_from(payload.len()).expect("small").to_le_bytes());
        self.0.push(kind);
        self.0.extend(payload);
        self
    }

    fn entry(
        self,
        path: &[u8],
        kind: u32,
        size: u64,
        target: Option<&[u8]>,
        segments: &[(u64, u64)],
    ) -> Self {
        let mut payload = Vec::new();
        let mut encoder = Encoder::new(&mut payload);
        let fields = if target.is_some() { 7 } else { 6 };
        encoder.map(fields).and_then(|e| e.u8(0)?.bytes(path)).expect("to memory");
        encoder
            .u8(1)
            .and_then(|e| e.u32(kind)?.u8(2)?.u32(0o755)?.u8(5)?.i64(0)?.u8(6)?.u64(size))
            .expect("to memory");
        if let Some(target) = target {
            encoder.u8(7).and_then(|e| e.bytes(target)).expect("to memory");
        }
        encoder.u8(8).and_then(|e| e.array(segments.len() as u64)).expect("to memory");
        for (offset, len) in segments {
            encoder.array(2).and_then(|e| e.u64(*offset)?.u64(*len)).expect("to memory");
        }
        self.frame(0x91, &payload)
    }

    fn dir(self, path: &str) -> Self {
        self.entry(path.as_bytes(), DIR, 0, None, &[])
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path.as_bytes(), SYMLINK, 0, Some(target.as_bytes()), &[])
    }

    /// A whole file with its trailer.
    fn file(self, path: &str, bytes: &[u8]) -> Self {
        let size = bytes.len() as u64;
        let mut script = self.entry(path.as_bytes(), FILE, size, None, &[(0, size)]);
        script.0.extend(bytes);
        script.0.push(0);
        script.0.extend(xxh64(bytes, 0).to_le_bytes());
        script
    }

    fn done(self, files: u64, bytes: u64) -> Self {
        let mut payload = Vec::new();
        Encoder::new(&mut payload)
            .map(2)
            .and_then(|e| e.u8(0)?.u64(files)?.u8(1)?.u64(bytes))
            .expect("to memory");
        self.frame(0x92, &payload)
    }
}

/// A VM whose agent sends these bytes on each channel, whatever it is asked, and listens to the end.
fn vm_that_says(storage: &Storage, script: Script) -> Vm<'_> {
    let vm = storage.create("liar");
    FakeMonitor::serve(&vm, move |mut stream| {
        let mut listener = stream.try_clone().expect("a descriptor more");
        let listening = thread::spawn(move || std::io::copy(&mut listener, &mut std::io::sink()));
        // The client may hang up in the middle, which is what is wanted of it.
        stream.write_all(&script.0).ok();
        listening.join().expect("no panic").ok();
    });
    vm
}

/// Everything that stands in `dir` besides what the storage itself made.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("there").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_honest_script_arrives_so_the_lies_below_fail_for_what_they_are() {
    let storage = Storage::new();
    let script = Script::new()
        .dir("")
        .dir("sub")
        .file("sub/file", b"honest")
        .symlink("link", "sub")
        .done(1, 6);
    let vm = vm_that_says(&storage, script);

    vm.download("/tree", &storage.scratch("target")).ok();

    assert_eq!(fs::read(storage.scratch("target/sub/file")).expect("downloaded"), b"honest");
}

#[test]
fn names_that_lead_out_of_the_target_are_refused() {
    let long = "a/".repeat(3000) + "a";
    for path in [
        "../escape",
        "a/../../escape",
        "/tmp/bandsox-escape",
        "..",
        ".",
        "a//b",
        "a/./b",
        "a\0b",
        &long,
    ] {
        let storage = Storage::new();
        let vm =
            vm_that_says(&storage, Script::new().dir("").dir("a").file(path, b"evil").done(1, 4));
        let box_dir = storage.scratch("box");
        fs::create_dir(&box_dir).expect("ours");

        vm.download("/tree", &box_dir.join("target")).output().refused("");

        assert!(
            !storage.scratch("escape").exists() && !Path::new("/tmp/bandsox-escape").exists(),
            "{path}"
        );
        assert!(
            names_in(&box_dir).iter().all(|name| name.contains("target")),
            "{:?}",
            names_in(&box_dir)
        );
        assert!(!box_dir.join("escape").exists(), "{path}");
    }
}

#[test]
fn no_link_is_ever_followed_out_of_the_target() {
    let scripts: [fn(&str) -> Script; 4] = [
        |outside| {
            Script::new().dir("").symlink("way", outside).file("way/escape", b"evil").done(1, 4)
        },
        |outside| {
            Script::new()
                .dir("")
                .dir("way")
                .symlink("way", outside)
                .file("way/escape", b"evil")
                .done(1, 4)
        },
        |outside| {
            Script::new()
                .dir("")
                .symlink("way", outside)
                .dir("way")
                .file("way/escape", b"evil")
                .done(1, 4)
        },
        |outside| {
            Script::new()
                .dir("")
                .symlink("escape", &format!("{outside}/escape"))
                .file("escape", b"evil")
                .done(1, 4)
        },
    ];
    for script in scripts {
        let storage = Storage::new();
        let outside = storage.scratch("outside");
        fs::create_dir(&outside).expect("ours");
        fs::write(outside.join("precious"), "precious").expect("ours");
        let vm = vm_that_says(&storage, script(&outside.to_string_lossy()));

        // Refused, or landed inside: both are right.
        drop(vm.download("/tree", &storage.scratch("target")).output());

        assert_eq!(names_in(&outside), ["precious"]);
        assert_eq!(fs::read(outside.join("precious")).expect("there"), b"precious");
    }
}

#[test]
fn sizes_and_checksums_that_lie_are_refused() {
    let lies: [(&str, Script); 7] = [
        ("data beyond the end", Script::new().dir("").entry(b"f", FILE, 4, None, &[(0, 8)])),
        (
            "data that goes back",
            Script::new().dir("").entry(b"f", FILE, 8, None, &[(4, 4), (0, 4)]),
        ),
        (
            "an end beyond all numbers",
            Script::new().dir("").entry(b"f", FILE, u64::MAX, None, &[(u64::MAX, 2)]),
        ),
        ("a device", Script::new().dir("").entry(b"f", 6, 0, None, &[])),
        ("an unknown kind", Script::new().dir("").entry(b"f", 77, 0, None, &[])),
        ("a frame of four gigabytes", Script([Script::new().0, vec![0xff; 5]].concat())),
        ("no messages at all", Script(vec![b'x'; 100_000])),
    ];
    for (lie, script) in lies {
        let storage = Storage::new();
        let vm = vm_that_says(&storage, script);

        let refused = vm.download("/tree", &storage.scratch("target")).output().refused("");

        assert!(!refused.complaint().is_empty(), "{lie}: {refused}");
        assert!(!storage.scratch("target/f").exists(), "{lie}");
    }

    let storage = Storage::new();
    let mut script = Script::new().dir("").file("f", b"good");
    *script.0.last_mut().expect("a checksum") ^= 1;
    let vm = vm_that_says(&storage, script.done(1, 4));
    vm.download("/tree", &storage.scratch("target"))
        .output()
        .refused("Checksum mismatch: expected ");
    assert!(!storage.scratch("target/f").exists());
}

#[test]
fn messages_without_end_take_no_memory() {
    let storage = Storage::new();
    let vm = storage.create("endless");
    FakeMonitor::serve(&vm, |mut stream| {
        let mut listener = stream.try_clone().expect("a descriptor more");
        thread::spawn(move || std::io::copy(&mut listener, &mut std::io::sink()));
        stream.write_all(&Script::new().dir("").0).ok();
        // A hundred thousand entries, unless the client has enough earlier.
        let one = Script::default().dir(&"d".repeat(200)).0;
        let many = one.repeat(1000);
        let mut sent = 0;
        while sent < 24 << 20 && stream.write_all(&many).is_ok() {
            sent += many.len();
        }
        stream.shutdown(Shutdown::Write).ok();
    });

    let mut download = vm.download("/tree", &storage.scratch("target")).spawn();
    let mut peak = 0_usize;
    while download.is_running() {
        let kib = Process::read(download.pid()).and_then(|process| process.status("VmRSS"));
        let kib =
            kib.and_then(|text| text.trim_end_matches(" kB").parse().ok()).unwrap_or_default();
        peak = peak.max(kib);
        thread::sleep(std::time::Duration::from_millis(20));
    }

    download.wait().refused("");
    assert!(peak < 60_000, "it took {peak} KiB");
}

#[test]
fn an_agent_that_speaks_only_v1_is_spoken_to_in_v1() {
    let storage = Storage::new();
    let vm = storage.create("old-agent");
    FakeMonitor::serve(&vm, v1_only::serve);
    let local =
        storage.file("sent", &(0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let back = storage.scratch("back");

    vm.upload(&local, "/tmp/file").args(["--protocol", "v1"]).ok();
    vm.download("/tmp/file", &back).args(["--protocol", "v1"]).ok();

    assert!(fs::read(local).expect("ours") == fs::read(back).expect("downloaded"));
    vm.download("/tmp/other", &storage.scratch("other"))
        .args(["--protocol", "v1"])
        .output()
        .refused("No such file");
}

#[test]
fn a_guest_that_floods_the_control_port_hurts_nobody() {
    let storage = Storage::new();
    let vm = storage.started("flooder");
    let port = vm.metadata()["vsock_config"]["port"].clone();

    // Anybody in the guest may connect where the agent says hello.
    for noise in ["{}", "BSX2", "\u{1}\u{1}\u{1}\u{1}\u{1}"] {
        drop(vm.exec(&["vsock-peer", "connect", &port.to_string(), noise]).output());
    }
    let flood = format!(
        "for i in $(seq 50); do vsock-peer connect {port} $(head -c 4000 /dev/zero | tr '\\0' x) & done; wait"
    );
    drop(vm.exec(&["sh", "-c", &flood]).output());

    assert_eq!(vm.sh("echo alive"), "alive");
    assert_eq!(vm.status(), "running");
    let kib = vm.monitor().status("RssAnon").expect("it lives");
    assert!(kib.trim_end_matches(" kB").parse::<u64>().is_ok_and(|kib| kib < 100_000), "{kib}");
    drop(connect(&vm.sockets(), 9000).expect("the agent answers"));
}

/// An agent of long ago: it keeps one file in memory and knows the migration guide's messages.
mod v1_only {
    use std::io::{BufRead, BufReader};
    use std::sync::Mutex;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use md5::{Digest, Md5};
    use serde_json::{Value, json};

    use super::{Shutdown, UnixStream, Write};

    static FILE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    pub(super) fn serve(stream: UnixStream) {
        let mut answers = stream.try_clone().expect("a descriptor more");
        let mut checksum = Value::Null;
        for line in BufReader::new(&stream).lines().map_while(Result::ok) {
            let Ok(message) = serde_json::from_str::<Value>(&line) else { break };
            let mut file = FILE.lock().expect("nobody panicked");
            let reply = match message["type"].as_str() {
                Some("upload") => {
                    file.clear();
                    checksum = message["checksum"].clone();
                    vec![json!({ "type": "ready", "path": message["path"] })]
                }
                Some("chunk") => {
                    let data = message["data"].as_str().expect("text");
                    file.extend(BASE64_STANDARD.decode(data).expect("base64"));
                    vec![json!({ "type": "ack", "bytes": file.len() })]
                }
                Some("verify") if checksum == md5(&file) => vec![complete(&file)],
                Some("download") if message["path"] == "/tmp/file" => {
                    let mut replies: Vec<_> = file.chunks(65_536).enumerate().map(chunk).collect();
                    replies.push(complete(&file));
                    replies
                }
                Some(_) | None => {
                    vec![json!({ "type": "error", "error": "No such file: /tmp/other" })]
                }
            };
            for line in reply {
                if answers.write_all(format!("{line}\n").as_bytes()).is_err() {
                    return;
                }
            }
        }
        answers.shutdown(Shutdown::Both).ok();
    }

    fn chunk((at, bytes): (usize, &[u8])) -> Value {
        json!({ "type": "chunk", "data": BASE64_STANDARD.encode(bytes), "size": bytes.len(), "offset": at * 65_536 })
    }

    fn complete(file: &[u8]) -> Value {
        json!({ "type": "complete", "size": file.len(), "checksum": md5(file) })
    }

    fn md5(bytes: &[u8]) -> String {
        Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
