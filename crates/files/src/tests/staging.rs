//! Files that are written under their own names, in directories that the transfer made.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

const REPLACING: ReceiveOptions = ReceiveOptions { staging: Staging::Replacing, ..RECEIVE };

#[test]
fn a_file_in_a_new_directory_has_its_contents_and_permissions() {
    let outer = temp();
    let to = outer.path().join("to");
    let odd = Entry { mode: 0o4751, ..file(b"d/f", b"new") };

    let wire = forged(&[(dir(b""), b""), (dir(b"d"), b""), (odd, b"new")]);
    received(&wire, &to, REPLACING).expect("receives");

    assert_eq!(fs::read(to.join("d/f")).expect("reads"), b"new");
    assert_eq!(to.join("d/f").metadata().expect("there").mode() & 0o7777, 0o4751);
    assert_eq!(names(&to.join("d")), [b"f"]);
}

#[test]
fn a_file_that_is_cut_short_in_a_new_directory_is_removed() {
    let outer = temp();
    let to = outer.path().join("to");
    let data = vec![7; 300_000];
    let wire =
        forged(&[(dir(b""), b""), (file(b"whole", b"1"), b"1"), (file(b"cut", &data), &data)]);

    received(&wire[..wire.len() - 100_000], &to, REPLACING).expect_err("cut short");

    assert_eq!(names(&to), [b"whole"]);
}

#[test]
fn a_file_in_a_directory_that_was_there_keeps_its_contents_until_the_new_one_is_whole() {
    let outer = temp();
    let to = outer.path().join("to");
    fs::create_dir_all(to.join("d")).expect("makes");
    fs::write(to.join("d/f"), b"old").expect("writes");
    let data = vec![7; 300_000];
    let wire = forged(&[(dir(b""), b""), (dir(b"d"), b""), (file(b"d/f", &data), &data)]);

    received(&wire[..wire.len() - 100_000], &to, REPLACING).expect_err("cut short");
    assert_eq!(fs::read(to.join("d/f")).expect("reads"), b"old");

    received(&wire, &to, REPLACING).expect("receives");
    assert_eq!(fs::read(to.join("d/f")).expect("reads"), data);
    assert_eq!(names(&to.join("d")), [b"f"]);
}

#[test]
fn a_name_that_comes_twice_is_replaced_and_never_written_through() {
    let outer = temp();
    let (to, outside) = (outer.path().join("to"), outer.path().join("outside"));
    fs::write(&outside, b"outside").expect("writes");
    let through = link(b"l", outside.to_str().expect("a plain path"));
    let wire = forged(&[
        (dir(b""), b""),
        (file(b"f", b"first"), b"first"),
        (file(b"f", b"second"), b"second"),
        (through, b""),
        (file(b"l", b"evil"), b"evil"),
    ]);

    received(&wire, &to, REPLACING).expect("receives");

    assert_eq!(fs::read(to.join("f")).expect("reads"), b"second");
    assert_eq!(fs::read(to.join("l")).expect("reads"), b"evil");
    assert_eq!(fs::read(&outside).expect("reads"), b"outside");
    assert_eq!(names(&to), [b"f", b"l"]);
}

#[test]
fn the_second_of_two_files_of_a_name_leaves_the_first_when_it_is_cut_short() {
    let outer = temp();
    let to = outer.path().join("to");
    let data = vec![7; 300_000];
    let wire = forged(&[(dir(b""), b""), (file(b"f", b"1"), b"1"), (file(b"f", &data), &data)]);

    received(&wire[..wire.len() - 100_000], &to, REPLACING).expect_err("cut short");

    assert_eq!(fs::read(to.join("f")).expect("reads"), b"1");
}
