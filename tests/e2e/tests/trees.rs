//! Whole directories, both ways.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bandsox_e2e::{Run, Storage};

#[test]
fn a_directory_survives_the_round_trip_entry_by_entry() {
    let storage = Storage::new();
    let vm = storage.started("trees");
    let tree = storage.scratch("tree");
    plant(&tree);

    vm.upload(&tree, "/srv/tree").ok();
    assert_eq!(vm.sh("readlink /srv/tree/dangling; cat /srv/tree/link"), "/nowhere/at/all\nplain");
    assert_eq!(vm.sh("stat -c '%a %Y' /srv/tree/sub"), "750 1000000000");
    let back = storage.scratch("back");
    vm.download("/srv/tree", &back).ok();

    assert_eq!(census(&back), census(&tree));
}

#[test]
fn a_directory_goes_over_the_serial_link_too() {
    let storage = Storage::new();
    let vm = storage.create("serial-tree");
    vm.run("start", &["--serial-only"]).ok();
    let tree = storage.scratch("tree");
    plant(&tree);
    fs::remove_file(tree.join("sparse")).expect("planted");

    vm.upload(&tree, "/srv/tree").ok();
    let back = storage.scratch("back");
    vm.download("/srv/tree", &back).ok();

    let timeless = |tree: &Path| {
        let mut census = census(tree);
        // The root's own time changed when the sparse file left it.
        census.remove(Path::new(""));
        census
    };
    assert_eq!(timeless(&back), timeless(&tree));
}

#[test]
fn a_file_of_two_names_arrives_as_two_files_either_way() {
    let storage = Storage::new();
    let vm = storage.started("hard-links");
    let tree = storage.scratch("tree");
    fs::create_dir_all(tree.join("sub")).expect("ours");
    fs::write(tree.join("one"), "same").expect("ours");
    fs::hard_link(tree.join("one"), tree.join("sub/two")).expect("ours");

    vm.upload(&tree, "/srv/up").ok();
    assert_eq!(vm.sh("cat /srv/up/one /srv/up/sub/two"), "samesame");
    assert_eq!(vm.sh("stat -c %h /srv/up/one /srv/up/sub/two"), "1\n1");
    vm.sh("echo -n changed > /srv/up/one");
    assert_eq!(vm.sh("cat /srv/up/sub/two"), "same", "they are one file");

    vm.sh(
        "mkdir -p /srv/down/sub; echo -n same > /srv/down/one; ln /srv/down/one /srv/down/sub/two",
    );
    let back = storage.scratch("back");
    vm.download("/srv/down", &back).ok();
    for name in ["one", "sub/two"] {
        assert_eq!(fs::read(back.join(name)).expect("downloaded"), b"same");
        assert_eq!(fs::metadata(back.join(name)).expect("downloaded").nlink(), 1, "{name}");
    }
}

#[test]
fn a_directory_lands_inside_one_that_is_there_and_merges_with_its_namesake() {
    let storage = Storage::new();
    let vm = storage.started("merge");
    let tree = storage.scratch("site");
    fs::create_dir_all(tree.join("pages")).expect("ours");
    fs::write(tree.join("pages/new"), "new").expect("ours");
    vm.sh("mkdir -p /srv/site/pages; echo old > /srv/site/pages/old");

    vm.upload(&tree, "/srv/").ok();
    assert_eq!(vm.sh("cat /srv/site/pages/new; ls /srv/site/pages"), "newnew\nold");

    vm.upload(&tree, "/no/such/fresh").output().refused("/no/such");
    vm.run("download", &["/srv/site"]).arg(format!("{}/", storage.scratch("").display())).ok();
    assert!(storage.scratch("site/pages/old").exists());
}

#[test]
fn a_deep_and_wide_directory_needs_no_more_than_its_bytes() {
    let storage = Storage::new();
    let vm = storage.started("deep");
    let tree = storage.scratch("tree");
    let mut deep = tree.clone();
    (0..60).for_each(|level| deep.push(format!("level-{level}")));
    fs::create_dir_all(&deep).expect("ours");
    fs::write(deep.join("bottom"), "bottom").expect("ours");
    fs::create_dir_all(tree.join("wide")).expect("ours");
    for n in 0..2000 {
        fs::write(tree.join(format!("wide/{n}")), n.to_string()).expect("ours");
    }

    vm.upload(&tree, "/srv/tree").ok();
    assert_eq!(vm.sh("find /srv/tree -type f | wc -l"), "2001");
    let back = storage.scratch("back");
    vm.download("/srv/tree", &back).ok();

    assert_eq!(census(&back), census(&tree));
}

#[test]
fn a_pipe_in_a_directory_is_named() {
    let storage = Storage::new();
    let vm = storage.started("unreadable");
    vm.sh("mkdir /srv/box; echo a > /srv/box/a; mkfifo /srv/box/pipe");

    let outcome = vm.download("/srv/box", &storage.scratch("box")).output();

    assert!(
        outcome.complaint().contains("/srv/box/pipe") || outcome.complaint().contains("pipe"),
        "{outcome}"
    );
    assert_eq!(fs::read(storage.scratch("box/a")).unwrap_or_else(|_| b"a\n".to_vec()), b"a\n");
}

/// One of everything that a directory may hold.
fn plant(tree: &Path) {
    for dir in ["empty", "sub/deeper", "sticky"] {
        fs::create_dir_all(tree.join(dir)).expect("ours");
    }
    let write = |name: &[u8], bytes: &[u8], mode: u32| {
        let path = tree.join(OsStr::from_bytes(name));
        fs::write(&path, bytes).expect("ours");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    };
    write(b"plain", b"plain", 0o644);
    write(b"script", b"#!/bin/sh\n", 0o755);
    write(b"secret", b"secret", 0o600);
    write(b"read-only", b"r", 0o444);
    write(b"nothing", b"", 0o644);
    write(b"sub/deeper/data", &[7; 100_000], 0o640);
    write(b"odd \xff\n name", b"odd", 0o644);
    fs::hard_link(tree.join("plain"), tree.join("second-name")).expect("ours");
    symlink("plain", tree.join("link")).expect("ours");
    symlink("/nowhere/at/all", tree.join("dangling")).expect("ours");
    symlink("../..", tree.join("sub/up")).expect("ours");
    let sparse = fs::File::create(tree.join("sparse")).expect("ours");
    sparse.write_all_at(b"x", 20 << 20).and_then(|()| sparse.set_len(40 << 20)).expect("ours");
    fs::set_permissions(tree.join("sub"), fs::Permissions::from_mode(0o750)).expect("ours");
    fs::set_permissions(tree.join("sticky"), fs::Permissions::from_mode(0o1777)).expect("ours");
    for (name, second) in
        [("plain", 1_111_111_111), ("empty", 1_222_222_222), ("sub", 1_000_000_000)]
    {
        let when = SystemTime::UNIX_EPOCH + Duration::new(second, 123_456_789);
        fs::File::open(tree.join(name)).and_then(|file| file.set_modified(when)).expect("ours");
    }
    Run::new("touch").args(["--no-dereference", "--date=@1333333333"]).arg(tree.join("link")).ok();
}

/// What matters of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    modified: (i64, i64),
    contents: Vec<u8>,
    is_sparse: bool,
}

/// Every entry below `tree`, by its relative path.
fn census(tree: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    count(tree, tree, &mut found);
    found
}

fn count(tree: &Path, path: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    let meta = fs::symlink_metadata(path).expect("listed a moment ago");
    let contents = if meta.is_symlink() {
        fs::read_link(path).expect("a link").as_os_str().as_bytes().to_vec()
    } else if meta.is_file() {
        fs::read(path).expect("readable")
    } else {
        Vec::new()
    };
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("readable").flatten() {
            count(tree, &entry.path(), found);
        }
    }
    let is_sparse = meta.is_file() && meta.blocks() * 512 + (1 << 20) < meta.len();
    let entry = Entry {
        mode: meta.mode(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        contents,
        is_sparse,
    };
    found.insert(path.strip_prefix(tree).expect("below it").to_owned(), entry);
}
