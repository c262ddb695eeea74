//! Where files go, and where from.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_directory_is_refused_where_one_file_was_asked_for() {
    let outer = temp();
    let to = outer.path().join("to");
    let options = ReceiveOptions { tree: false, ..RECEIVE };

    received(&forged(&[(dir(b""), b"")]), &to, options).expect_err("a directory");
    received(&forged(&[(link(b"", "/etc/passwd"), b"")]), &to, options).expect_err("a link");
    let two = forged(&[(file(b"", b"1"), b"1"), (file(b"x", b"2"), b"2")]);
    received(&two, &to, options).expect_err("two files");

    assert_eq!(fs::read(&to).expect("the first was complete"), b"1");
}

#[test]
fn a_file_into_a_directory_keeps_its_name() {
    let outer = temp();
    let inside = |path: &str, name: &str, parents| {
        Target::resolve(Path::new(path), Some(name.as_bytes()), parents)
            .map(|t| t.path().to_printable())
    };
    let root = outer.path().to_str().expect("a plain path");

    assert_eq!(inside(root, "f", Parents::Require).expect("there"), format!("{root}/f"));
    assert_eq!(
        inside(&format!("{root}/x"), "f", Parents::Require).expect("there"),
        format!("{root}/x")
    );
    inside(&format!("{root}/x/"), "f", Parents::Require).expect_err("no such directory");
    let made = inside(&format!("{root}/x/y/"), "f", Parents::Create).expect("made");
    assert_eq!(made, format!("{root}/x/y/f"));
    for evil in ["", ".", "..", "a/b", "../x", "a\0"] {
        inside(root, evil, Parents::Create).expect_err("hostile");
    }
}

#[test]
fn a_target_that_is_a_link_is_followed_once_named_by_the_user() {
    let outer = temp();
    let real = outer.path().join("real");
    fs::write(&real, b"old").expect("writes");
    symlink("real", outer.path().join("link")).expect("links");

    received(&forged(&[(file(b"", b"new"), b"new")]), &outer.path().join("link"), RECEIVE)
        .expect("receives");

    assert_eq!(fs::read(&real).expect("reads"), b"new");
    assert!(outer.path().join("link").is_symlink());
}

#[test]
fn a_link_that_leads_round_in_circles_is_an_error() {
    let outer = temp();
    symlink("b", outer.path().join("a")).expect("links");
    symlink("a", outer.path().join("b")).expect("links");

    Target::resolve(&outer.path().join("a"), None, Parents::Require).expect_err("a loop");
}

#[test]
fn a_device_is_not_replaced_by_a_file() {
    let error =
        Target::resolve(Path::new("/dev/null"), None, Parents::Require).expect_err("a device");

    assert_eq!(error.to_string(), "/dev/null is a character device, not a regular file");
    assert_eq!(fault(&error).code, ErrorCode::NotAFile);
}

#[test]
fn a_missing_source_says_so() {
    let error = sent(Path::new("/nonexistent/file")).expect_err("not there");

    let fault = fault(&error);
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert_eq!(
        fault.message,
        "cannot open /nonexistent/file: No such file or directory (os error 2)"
    );
}

#[test]
fn what_a_killed_transfer_left_goes_with_the_next_one_into_the_same_directories() {
    let outer = temp();
    let to = outer.path().join("to");
    fs::create_dir_all(to.join("old")).expect("makes");
    fs::create_dir_all(to.join("elsewhere")).expect("makes");
    let leftover = ".bandsox-0123456789abcdef.tmp";
    for at in [outer.path(), &to, &to.join("old"), &to.join("elsewhere")] {
        fs::write(at.join(leftover), b"half").expect("writes");
    }
    let tree = [dir(b""), dir(b"old"), file(b"old/f", b"f"), dir(b"fresh"), file(b"fresh/f", b"f")];
    let wire: Vec<_> = tree.into_iter().map(|e| (e.clone(), data_of(&e))).collect();

    received(&forged(&wire), &to, RECEIVE).expect("receives");

    assert_eq!(names(&to), [&b"elsewhere"[..], b"fresh", b"old"]);
    assert_eq!(names(&to.join("old")), [b"f"]);
    assert_eq!(names(&to.join("elsewhere")), [leftover.as_bytes()], "the transfer was not here");
    // A fresh directory beside one: whoever repeats a killed transfer finds the leftover here.
    fs::write(outer.path().join(leftover), b"half").expect("writes");
    received(&forged(&[(dir(b""), b"")]), &outer.path().join("new"), RECEIVE).expect("receives");
    assert_eq!(names(outer.path()), [&b"new"[..], b"to"]);
}

#[test]
fn a_transfer_spares_what_another_one_is_writing_beside_it() {
    let outer = temp();
    let to = outer.path().join("to");
    fs::create_dir(&to).expect("makes");
    let target = Target::resolve(&to.join("single"), None, Parents::Require).expect("resolves");
    let incoming = Incoming::create(&target).expect("creates");
    incoming.write_at(b"data", 0).expect("writes");

    received(&forged(&[(dir(b""), b""), (file(b"f", b"f"), b"f")]), &to, RECEIVE)
        .expect("receives");

    let metadata = Metadata { mode: 0o644, mtime_ns: None, uid: None, gid: None };
    incoming.commit(metadata).expect("still there");
    assert_eq!(names(&to), [&b"f"[..], b"single"]);
}

fn data_of(entry: &Entry) -> &'static [u8] {
    if entry.kind == EntryKind::File { b"f" } else { b"" }
}
