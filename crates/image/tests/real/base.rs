//! Images from tars and directories, judged by `fsck.erofs`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use bandsox_image::base::{Base, Format, Limits, prepare};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use tempfile::TempDir;

pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().expect("the program runs");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

fn prepared(image: &Path, images: &Path) -> Base {
    let base = prepare(image, images, &Limits::default());
    base.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// A tree with something of everything that an ordinary user can make.
pub(crate) fn plant(root: &Path) {
    fs::create_dir_all(root.join("many")).expect("creates");
    for number in 0..1000 {
        let name = format!("many/{number:04}-{}", "n".repeat(number % 200));
        fs::write(root.join(name), vec![b'0'; number * 7]).expect("writes");
    }
    fs::create_dir(root.join("empty")).expect("creates");
    for name in ["!before-dot", "-dash", ".hidden", "a b", "new\nline", "ümlaut", &"l".repeat(255)]
    {
        fs::write(root.join(name), name).expect("writes");
    }
    for size in [0usize, 1, 2047, 2048, 2049, 4095, 4096, 4097, 65_536, 1_000_003] {
        let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
        fs::write(root.join(format!("size-{size}")), bytes).expect("writes");
    }
    let sparse = File::create(root.join("sparse")).expect("creates");
    sparse.set_len((5 << 30) + 3).expect("grows");
    sparse.write_all_at(b"middle", 3 << 30).expect("writes");
    sparse.write_all_at(b"end", 5 << 30).expect("writes");
    let holey = File::create(root.join("holey")).expect("creates");
    holey.set_len(1 << 20).expect("grows");
    holey.write_all_at(&[7; 10_000], 300_000).expect("writes");
    symlink("size-1", root.join("short-link")).expect("links");
    symlink("t".repeat(4095), root.join("long-link")).expect("links");
    fs::hard_link(root.join("size-4097"), root.join("empty/hard")).expect("links");
    fs::hard_link(root.join("size-4097"), root.join("many/hard")).expect("links");
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).expect("makes");
    fs::set_permissions(root.join("size-1"), fs::Permissions::from_mode(0o6751)).expect("chmods");
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o1777)).expect("chmods");
    let old = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500));
    File::open(root.join("size-2048")).expect("opens").set_times(old).expect("sets");
    let attribute = |name: &str, key: &str, value: &[u8]| {
        lsetxattr(root.join(name), key, value, XattrFlags::empty())
            .expect("the file system has xattrs");
    };
    attribute("size-4096", "user.note", b"with\nnewline and \0");
    attribute("size-4096", "user.empty", b"");
    attribute("size-2048", "user.long", &[b'v'; 1500]);
    attribute("empty", "user.dir", b"directory");
    // Access ACL, version 2: owner rw-, user 1000 r--, group r--, mask r--, other ---.
    let acl: Vec<u8> = [
        (0x01, 6, u32::MAX),
        (0x02, 4, 1000),
        (0x04, 4, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ]
    .into_iter()
    .flat_map(|(tag, permissions, id)| {
        let (tag, permissions): (u16, u16) = (tag, permissions);
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &u32::to_le_bytes(id)].concat()
    })
    .collect();
    attribute("size-4097", "system.posix_acl_access", &[&2u32.to_le_bytes()[..], &acl].concat());
    if rustix::process::geteuid().is_root() {
        plant_as_root(root);
    }
}

/// What only root can make.
fn plant_as_root(root: &Path) {
    let device = |name: &str, kind, major, minor| {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o660), makedev(major, minor))
            .expect("makes");
    };
    device("char", FileType::CharacterDevice, 5, 1);
    device("block", FileType::BlockDevice, 259, 70_000);
    std::os::unix::fs::lchown(root.join("size-0"), Some(3_000_000_000), Some(65_536))
        .expect("chowns");
    std::os::unix::fs::lchown(root.join("short-link"), Some(1000), Some(1000)).expect("chowns");
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (name, key, value) in [
        ("size-2049", "security.capability", &capability[..]),
        ("size-2049", "trusted.note", b"root only"),
        ("long-link", "trusted.link", b"on a link"),
        ("char", "trusted.device", b"on a device"),
    ] {
        lsetxattr(root.join(name), key, value, XattrFlags::empty()).expect("sets");
    }
}

#[test]
fn fsck_accepts_the_image_of_a_directory_and_holes_take_no_room() {
    let dir = TempDir::new().expect("a temporary directory");
    let (root, images) = (dir.path().join("root"), dir.path().join("images"));
    plant(&root);
    fs::create_dir(&images).expect("creates");

    let base = prepared(&root, &images);

    assert_eq!(base.format, Format::Erofs);
    let image = fs::metadata(&base.path).expect("stats");
    assert!(image.len() < 20 << 20, "{} bytes", image.len());
    assert_eq!(image.permissions().mode() & 0o777, 0o400);
    run("fsck.erofs", &[path(&base.path)]);
}

#[test]
fn a_tar_and_the_directory_that_it_was_made_of_give_the_same_image() {
    let dir = TempDir::new().expect("a temporary directory");
    let (root, images, tar) =
        (dir.path().join("root"), dir.path().join("images"), dir.path().join("image.tar"));
    plant(&root);
    fs::create_dir(&images).expect("creates");
    let of_directory = prepared(&root, &images);

    let arguments = [
        "-C",
        path(&root),
        "--format=posix",
        "--sort=name",
        "-S",
        "--xattrs",
        "--xattrs-include=*",
        "-cf",
        path(&tar),
        ".",
    ];
    run("tar", &arguments);
    let of_tar = prepared(&tar, &images);

    assert_eq!(of_tar.path, of_directory.path);
    assert_eq!(of_tar.label, path(&tar));
    for (program, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        run(program, &["-k", "-1", path(&tar)]);
        let packed = dir.path().join(format!("image.tar.{suffix}"));
        assert_eq!(prepared(&packed, &images).path, of_directory.path, "{program}");
    }
}

#[test]
fn an_unchanged_source_is_not_read_again_and_a_changed_one_is() {
    let dir = TempDir::new().expect("a temporary directory");
    let (root, images, tar) =
        (dir.path().join("root"), dir.path().join("images"), dir.path().join("image.tar"));
    fs::create_dir_all(root.join("sub")).expect("creates");
    fs::write(root.join("sub/file"), b"first").expect("writes");
    fs::create_dir(&images).expect("creates");
    run("tar", &["-C", path(&root), "-cf", path(&tar), "."]);
    let first = [&root, &tar].map(|source| prepared(source, &images));

    // An image of the right length is taken on trust, so that a mark in it stays shows that nothing was built.
    for (source, first) in [(&root, &first[0]), (&tar, &first[1])] {
        fs::set_permissions(&first.path, fs::Permissions::from_mode(0o600)).expect("chmods");
        File::options()
            .write(true)
            .open(&first.path)
            .expect("opens")
            .write_all_at(b"mark", 0)
            .expect("writes");
        let again = prepared(source, &images);
        assert_eq!(again.path, first.path);
        assert!(fs::read(&again.path).expect("reads").starts_with(b"mark"));
    }

    // Same length, same modification time: the change time gives it away.
    let times = fs::FileTimes::new().set_modified(
        fs::metadata(root.join("sub/file")).expect("stats").modified().expect("is kept"),
    );
    fs::write(root.join("sub/file"), b"other").expect("writes");
    File::options()
        .write(true)
        .open(root.join("sub/file"))
        .expect("opens")
        .set_times(times)
        .expect("sets");
    let changed = prepared(&root, &images);
    assert_ne!(changed.path, first[0].path);

    fs::remove_file(&changed.path).expect("removes");
    let rebuilt = prepared(&root, &images);
    assert_eq!(rebuilt.path, changed.path);
    rebuilt
        .verify_unchanged(&changed.identity)
        .expect("a lost image that is built again is the same");
}
