//! What no honest sender sends writes nothing outside the target.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use proptest::prelude::*;

use super::*;

#[test]
fn names_that_lead_out_are_refused_and_nothing_is_written() {
    let outer = temp();
    let to = outer.path().join("to");
    for path in [
        &b"../escaped"[..],
        b"a/../../escaped",
        b"/etc/escaped",
        b"a//b",
        b"a/",
        b"./a",
        b".",
        b"..",
        b"a\0b",
        &[b'x'; 256],
        &b"y/".repeat(3000),
    ] {
        let wire = forged(&[(dir(b""), b""), (dir(b"a"), b""), (file(path, b"evil"), b"evil")]);

        let error = received(&wire, &to, RECEIVE).expect_err("hostile");

        assert_eq!(fault(&error).code, ErrorCode::UnsafeName, "{error}");
        fs::remove_dir_all(&to).expect("only the honest part is there");
        assert!(names(outer.path()).is_empty());
    }
}

#[test]
fn nothing_is_written_through_a_link_that_the_stream_made() {
    let outer = temp();
    let to = outer.path().join("to");
    let outside = outer.path().join("outside");
    fs::create_dir(&outside).expect("makes");
    let target = outside.to_str().expect("a plain path");

    for hostile in [file(b"out/evil", b""), dir(b"out"), dir(b"out/evil"), link(b"out/evil", "x")] {
        let wire = forged(&[(dir(b""), b""), (link(b"out", target), b""), (hostile, b"")]);
        received(&wire, &to, RECEIVE).expect_err("hostile");

        assert!(names(&outside).is_empty());
    }
    // A file of the link's name takes the link's place, not the place it points to.
    fs::write(outside.join("file"), b"safe").expect("writes");
    let target = outside.join("file");
    let target = target.to_str().expect("a plain path");
    let wire = forged(&[(dir(b""), b""), (link(b"f", target), b""), (file(b"f", b"x"), b"x")]);
    received(&wire, &to, RECEIVE).expect("replaces the link");
    assert_eq!(fs::read(outside.join("file")).expect("reads"), b"safe");
    assert_eq!(fs::read(to.join("f")).expect("reads"), b"x");
}

#[test]
fn a_link_that_was_there_before_is_not_followed_either() {
    let outer = temp();
    let (to, outside) = (outer.path().join("to"), outer.path().join("outside"));
    fs::create_dir(&to).expect("makes");
    fs::create_dir(&outside).expect("makes");
    symlink(&outside, to.join("sub")).expect("links");

    let wire = forged(&[(dir(b""), b""), (dir(b"sub"), b""), (file(b"sub/evil", b""), b"")]);
    let error = received(&wire, &to, RECEIVE).expect_err("a link is in the way");

    assert!(error.to_string().ends_with("/to/sub is a symbolic link, not a directory"), "{error}");
    assert!(names(&outside).is_empty());
}

#[test]
fn entries_that_contradict_themselves_are_refused() {
    let dir_ = temp();
    let to = dir_.path().join("to");
    let segment = |offset, len| vec![Segment { offset, len }];
    let many = |pairs: &[(u64, u64)]| {
        pairs.iter().map(|&(offset, len)| Segment { offset, len }).collect::<Vec<_>>()
    };
    for hostile in [
        Entry { segments: segment(0, 4), ..file(b"", b"abc") },
        Entry { segments: segment(u64::MAX, 2), ..file(b"", b"abc") },
        Entry { segments: many(&[(0, 2), (1, 2)]), ..file(b"", b"abc") },
        Entry { segments: many(&[(2, 1), (0, 1)]), ..file(b"", b"abc") },
        Entry { segments: segment(1, 0), ..file(b"", b"abc") },
        Entry { size: u64::MAX, ..file(b"", b"abc") },
        Entry { size: 5, segments: Vec::new(), ..dir(b"") },
        Entry { target: None, ..link(b"", "x") },
        link(b"", ""),
        link(b"", "a\0b"),
        Entry { target: Some("x".into()), ..file(b"", b"abc") },
        Entry { kind: EntryKind::CharDevice, ..file(b"", b"") },
    ] {
        let wire = forged(&[(hostile.clone(), b"abc")]);

        let error = received(&wire, &to, RECEIVE).expect_err("hostile");

        assert!(matches!(error, ReceiveError::Entry(_)), "{hostile:?}: {error}");
        assert!(names(dir_.path()).is_empty());
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let outer = temp();
    let to = outer.path().join("to");
    let cases: [&[(Entry, &[u8])]; 4] = [
        &[(file(b"a", b""), b"")],
        &[(dir(b""), b""), (file(b"a/b", b""), b"")],
        &[(dir(b""), b""), (dir(b""), b"")],
        &[(dir(b""), b""), (dir(b"a"), b""), (dir(b"b"), b""), (file(b"a/x", b""), b"")],
    ];
    for case in cases {
        let error = received(&forged(case), &to, RECEIVE).expect_err("out of order");

        assert!(matches!(error, ReceiveError::Order { .. }), "{error}");
    }
}

#[test]
fn more_than_the_limits_is_refused_before_it_is_stored() {
    let outer = temp();
    let to = outer.path().join("to");
    let limits = Limits { entries: 3, bytes: 10 };
    let options = ReceiveOptions { limits, ..RECEIVE };

    let many = [(dir(b""), &b""[..]), (dir(b"a"), b""), (dir(b"b"), b""), (dir(b"c"), b"")];
    let error = received(&forged(&many), &to, options).expect_err("too many");
    assert_eq!(error.to_string(), "more than 3 files arrived");

    let large = [(dir(b""), &b""[..]), (file(b"f", b"12345678901"), b"12345678901")];
    let error = received(&forged(&large), &to, options).expect_err("too large");
    assert_eq!(error.to_string(), "more than 10 bytes arrived");
    assert!(!to.join("f").exists());

    let deep: Vec<(Entry, &[u8])> = (0..300)
        .map(|n| (dir("d/".repeat(n).trim_end_matches('/').as_bytes()), &b""[..]))
        .collect();
    let error = received(&forged(&deep), &to, RECEIVE).expect_err("too deep");
    assert_eq!(error.to_string(), "more than 256 levels arrived");
}

#[test]
fn a_host_takes_no_set_user_id_from_a_guest() {
    let outer = temp();
    let to = outer.path().join("to");
    let hostile = Entry { mode: 0o177_6777, ..file(b"", b"") };

    let options = ReceiveOptions { mode_mask: 0o777, ..RECEIVE };
    received(&forged(&[(hostile, b"")]), &to, options).expect("receives");

    assert_eq!(to.metadata().expect("there").mode() & 0o7777, 0o777);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_receiver_panic_or_write_outside(wire: Vec<u8>, cut in 0_usize..200, at in 0_usize..200, byte: u8) {
        let outer = temp();
        let to = outer.path().join("to");
        received(&wire, &to, RECEIVE).ok();
        let mut damaged = forged(&[(dir(b""), b""), (link(b"l", "/tmp"), b""), (file(b"f", b"data"), b"data")]);
        damaged.truncate(damaged.len().saturating_sub(cut));
        if let Some(place) = damaged.get_mut(at) {
            *place = byte;
        }
        received(&damaged, &to, RECEIVE).ok();
        prop_assert!(names(outer.path()).iter().all(|name| name == b"to"));
    }
}
