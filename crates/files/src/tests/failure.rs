//! What fails leaves the old file, and says why.

use std::fs::{self, File};

use super::*;

#[test]
fn a_file_that_shrinks_while_it_is_read_leaves_the_old_one() {
    let dir = temp();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, vec![1; 3_000_000]).expect("writes");
    fs::write(&to, b"old").expect("writes");
    let mut wire = Vec::new();

    let mut shrink = |_| {
        File::options()
            .write(true)
            .open(&from)
            .and_then(|f| f.set_len(1_000_000))
            .expect("shrinks");
        ControlFlow::Continue(())
    };
    let error = send(Source::open(&from).expect("there"), SEND, &mut wire, &mut shrink);
    let error = error.expect_err("it shrank");
    let told = received(&wire, &to, RECEIVE).expect_err("it shrank");

    assert!(
        error
            .to_string()
            .ends_with("shrank while it was read: 1000000 of 3000000 bytes were there")
    );
    assert_eq!(told.to_string(), error.to_string());
    assert_eq!(fault(&told).code, ErrorCode::SourceChanged);
    assert_eq!(fs::read(&to).expect("reads"), b"old");
    assert_eq!(names(dir.path()).len(), 2, "no temporary file is left");
}

#[test]
fn a_wrong_checksum_leaves_the_old_file_and_says_both() {
    let dir = temp();
    let to = dir.path().join("to");
    fs::write(&to, b"old").expect("writes");
    let mut wire = forged(&[(file(b"", b"new"), b"new")]);
    let at = wire.windows(3).position(|w| w == b"new").expect("there");
    wire[at] = b'N';

    let error = received(&wire, &to, RECEIVE).expect_err("the bytes changed");

    let text = error.to_string();
    assert!(text.starts_with("Checksum mismatch: expected "), "{text}");
    assert!(text.contains(" got "), "{text}");
    assert_eq!(fs::read(&to).expect("reads"), b"old");
    assert_eq!(names(dir.path()), [b"to"]);
}

#[test]
fn a_sender_that_goes_away_leaves_the_old_file() {
    let dir = temp();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, vec![7; 1_000_000]).expect("writes");
    fs::write(&to, b"old").expect("writes");
    let (wire, _) = sent(&from).expect("sends");

    for len in [0, 3, 60, 500_000, wire.len() - 10, wire.len() - 1] {
        received(&wire[..len], &to, RECEIVE).expect_err("cut short");
    }

    assert_eq!(names(dir.path()), [&b"from"[..], b"to"]);
    // Cut within Done, the file itself was complete.
    received(&wire[..500_000], &to, RECEIVE).expect_err("cut short");
    fs::write(&to, b"old").expect("writes");
    received(&wire[..wire.len() - 21], &to, RECEIVE).expect_err("cut short");
    assert!(fs::read(&to).expect("reads") == b"old");
}

#[test]
fn a_full_disk_names_the_file_and_leaves_the_old_one() {
    let Some(outer) = std::env::var_os("BANDSOX_TEST_FULL_DISK") else {
        return run_on_a_small_disk("a_full_disk_names_the_file_and_leaves_the_old_one");
    };
    let outer = Path::new(&outer);
    let to = outer.join("to");
    fs::write(&to, b"old").expect("writes");
    let data = vec![1; 1_000_000];
    let wire = forged(&[(file(b"", &data), &data)]);

    let error = received(&wire, &to, RECEIVE).expect_err("no room");

    let fault = fault(&error);
    assert_eq!(fault.code, ErrorCode::NoSpace);
    let path = to.to_str().expect("a plain path");
    assert_eq!(
        fault.message,
        format!("cannot write {path}: No space left on device (os error 28)")
    );
    assert_eq!(fs::read(&to).expect("reads"), b"old");
    assert_eq!(names(outer), [b"to"]);
}

/// Runs the named test again in namespaces of its own, on a file system of 256 KiB.
fn run_on_a_small_disk(test: &str) {
    let dir = temp();
    let script = r#"mount -t tmpfs -o size=256k none "$BANDSOX_TEST_FULL_DISK" && exec "$0" "$@""#;
    let status = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .arg(std::env::current_exe().expect("a program"))
        .args(["--exact", &format!("tests::failure::{test}")])
        .env("BANDSOX_TEST_FULL_DISK", dir.path())
        .status();
    assert!(status.expect("unshare is there").success());
}

#[test]
fn a_trailer_with_any_bad_status_voids_the_file() {
    let outer = temp();
    let to = outer.path().join("to");
    let mut wire = Vec::new();
    Transfer::Entry(file(b"", b"x")).encode(&mut wire).expect("fits");
    wire.push(b'x');
    let xxh64 = xxhash_rust::xxh64::xxh64(b"x", 0);
    wire.extend_from_slice(&Trailer { status: Status::SourceFailed, xxh64 }.to_bytes());

    let error = received(&wire, &to, RECEIVE).expect_err("void");

    assert!(matches!(error, ReceiveError::SourceFailed { .. }), "{error}");
    assert!(names(outer.path()).is_empty());
}
