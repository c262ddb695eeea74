//! `upload`, `download` and `cp` through a stand-in for the monitor.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bed::{Bed, outcome};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("lists")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_guides_messages_are_printed_to_the_letter() {
    let bed = Bed::new();
    let (local, remote, back) = (bed.path("test.txt"), bed.path("remote"), bed.path("back"));
    fs::write(&local, "Hello, world!\n").expect("written");
    for protocol in ["v1", "v2"] {
        let with = ["--protocol", protocol];
        let up = outcome(bed.bandsox(&["upload", "web"]).arg(&local).arg(&remote).args(with));
        let down = outcome(bed.bandsox(&["download", "web"]).arg(&remote).arg(&back).args(with));

        let shown = remote.display();
        let told = |way: &str| format!("File {way} via vsock: {shown} (14 bytes)\n");
        assert_eq!(up, (Some(0), String::new(), told("uploaded")));
        assert_eq!(down, (Some(0), String::new(), told("downloaded")));
        assert_eq!(fs::read(&back).expect("there"), b"Hello, world!\n");
    }
    let shown = remote.display();
    assert_eq!(bed.notes(), [format!("Upload {shown} 14"), format!("Download {shown} 14")]);
}

#[test]
fn quiet_says_nothing_and_json_says_it_in_json() {
    let bed = Bed::new();
    let local = bed.path("local");
    fs::write(&local, "x").expect("written");

    let quiet = outcome(bed.bandsox(&["-q", "upload", "web"]).arg(&local).arg(bed.path("remote")));
    let (_, out, _) =
        outcome(bed.bandsox(&["-o", "json", "upload", "web"]).arg(&local).arg(bed.path("remote")));

    assert_eq!(quiet, (Some(0), String::new(), String::new()));
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&told["bytes"], &told["protocol"]), (&json!(1), &json!("v2")));
}

#[test]
fn what_a_guest_says_of_a_file_does_not_make_it_set_user_id() {
    let bed = Bed::new();
    fs::write(bed.path("remote"), "#!/bin/sh\n").expect("written");

    let (code, _, err) =
        outcome(bed.bandsox(&["download", "web"]).arg(bed.path("remote")).arg(bed.path("back")));

    assert_eq!(code, Some(0), "{err}");
    let got = fs::metadata(bed.path("back")).expect("there");
    assert_eq!(got.mode() & 0o6000, 0, "{:o}", got.mode());
    assert_eq!((got.mode() & 0o777, got.mtime()), (0o755, 1_234_567_890));
}

#[test]
fn a_dash_is_standard_input_and_output() {
    let bed = Bed::new();
    for protocol in ["v1", "v2"] {
        let with = ["--protocol", protocol];
        let mut upload = bed
            .bandsox(&["upload", "web", "-"])
            .arg(bed.path("remote"))
            .args(with)
            .stdin(Stdio::piped())
            .spawn()
            .expect("runs");
        upload.stdin.take().expect("a pipe").write_all(protocol.as_bytes()).expect("written");
        assert!(upload.wait().expect("ends").success());

        let mut download = bed.bandsox(&["-q", "download", "web"]);
        let (code, out, err) = outcome(download.arg(bed.path("remote")).arg("-").args(with));

        assert_eq!((code, out.as_str()), (Some(0), protocol), "{err}");
    }
}

#[test]
fn a_download_goes_where_cp_would_put_it() {
    let bed = Bed::new();
    fs::write(bed.path("note"), "note").expect("written");
    fs::create_dir(bed.path("dir")).expect("created");
    fs::write(bed.path("real"), "old").expect("written");
    symlink("real", bed.path("link")).expect("linked");
    let download = |to: &str| {
        outcome(bed.bandsox(&["-q", "download", "web"]).arg(bed.path("note")).arg(bed.path(to)))
    };

    assert_eq!(download("dir").0, Some(0));
    assert_eq!(fs::read(bed.path("dir/note")).expect("there"), b"note");
    assert_eq!(download("link").0, Some(0));
    assert_eq!(fs::read(bed.path("real")).expect("there"), b"note");
    assert!(bed.path("link").symlink_metadata().expect("there").is_symlink());
    let to_null =
        outcome(bed.bandsox(&["-q", "download", "web"]).arg(bed.path("note")).arg("/dev/null"));
    assert_eq!(to_null.0, Some(0), "{}", to_null.2);
    assert!(!Path::new("/dev/null").metadata().expect("there").is_file());
    let (code, _, err) = download("no/dir/x");
    assert_eq!(code, Some(1));
    assert!(err.contains("no/dir does not exist"), "{err}");
}

#[test]
fn a_failed_download_leaves_the_old_file_and_nothing_else() {
    let bed = Bed::new();
    fs::create_dir(bed.path("dir")).expect("created");
    fs::write(bed.path("dir/file"), "old").expect("written");
    for protocol in ["v1", "v2"] {
        let mut download = bed.bandsox(&["download", "web", "/no/such/file"]);
        let (code, _, err) =
            outcome(download.arg(bed.path("dir/file")).args(["--protocol", protocol]));

        assert_eq!(code, Some(1));
        assert!(err.contains("/no/such/file"), "{err}");
        assert_eq!(fs::read(bed.path("dir/file")).expect("there"), b"old");
        assert_eq!(names(&bed.path("dir")), ["file"]);
    }
}

#[test]
fn directories_go_both_ways_and_cp_knows_which() {
    let bed = Bed::new();
    fs::create_dir_all(bed.path("site/pages")).expect("created");
    fs::write(bed.path("site/pages/a"), "a").expect("written");
    fs::create_dir(bed.path("srv")).expect("created");
    let there = format!("web:{}", bed.path("srv").display());

    let (code, _, err) =
        outcome(bed.bandsox(&["cp"]).arg(bed.path("site")).arg(format!("{there}/")));
    assert_eq!(code, Some(0), "{err}");
    let shown = bed.path("srv/site");
    assert_eq!(
        err,
        format!("Directory uploaded via vsock: {} (1 file, 1 bytes)\n", shown.display())
    );
    let (code, _, err) =
        outcome(bed.bandsox(&["cp"]).arg(format!("{there}/site")).arg(bed.path("back")));
    assert_eq!(code, Some(0), "{err}");

    assert_eq!(fs::read(bed.path("back/pages/a")).expect("there"), b"a");
    assert_eq!(bed.notes().len(), 2);
    let (code, _, err) = outcome(
        bed.bandsox(&["upload", "web", "--protocol", "v1"])
            .arg(bed.path("site"))
            .arg(bed.path("x")),
    );
    assert_eq!(code, Some(1));
    assert!(err.contains("is a directory"), "{err}");
}

#[test]
fn a_file_that_says_what_it_holds_only_when_read_is_read() {
    let bed = Bed::new();

    let (code, _, err) =
        outcome(bed.bandsox(&["upload", "web", "/proc/version"]).arg(bed.path("remote")));

    assert_eq!(code, Some(0), "{err}");
    let there = fs::read(bed.path("remote")).expect("there");
    assert_eq!(there, fs::read("/proc/version").expect("there"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let bed = Bed::new();
    let upload = |from: &Path| {
        let (code, _, err) = outcome(bed.bandsox(&["upload", "web"]).arg(from).arg("/x"));
        assert_eq!(code, Some(1));
        err
    };
    let socket = bed.path("storage/sockets/0123456789ab/control.sock");

    assert!(upload(&bed.path("absent")).contains("absent"));
    assert!(upload(&socket).contains("it is a socket"));
}
