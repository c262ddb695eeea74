//! What hostile and what merely odd archives do to the tree.

use super::*;

fn tree() -> Tree {
    Tree::new(1000, 100_000)
}

fn file(tree: &mut Tree, path: &str) -> Result<InodeId, TreeError> {
    tree.insert(
        path.as_bytes(),
        Attributes::default(),
        Node::File(FileData::Inline(Box::default())),
    )
}

fn directory(tree: &mut Tree, path: &str) -> InodeId {
    tree.insert(path.as_bytes(), Attributes::default(), Node::Directory).expect("inserts")
}

fn symlink(tree: &mut Tree, path: &str, target: &str) {
    let node = Node::Symlink(target.as_bytes().into());
    tree.insert(path.as_bytes(), Attributes::default(), node).expect("inserts");
}

/// All paths, files and directories, sorted.
fn paths(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), ROOT)];
    while let Some((path, id)) = pending.pop() {
        for (name, child) in &tree.get(id).children {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            found.push(path.clone());
            pending.push((path, *child));
        }
    }
    found.sort();
    found
}

#[test]
fn climbing_paths_are_refused_and_absolute_ones_begin_at_the_root() {
    let mut tree = tree();

    assert_eq!(
        file(&mut tree, "a/../../etc/passwd"),
        Err(TreeError::Climbs { path: "a/../../etc/passwd".to_owned() })
    );
    assert_eq!(file(&mut tree, ".."), Err(TreeError::Climbs { path: "..".to_owned() }));
    file(&mut tree, "//etc/./shadow").expect("inserts");

    assert_eq!(paths(&tree), ["/etc", "/etc/shadow"]);
}

#[test]
fn a_path_through_a_symlink_stays_inside_the_image() {
    let mut tree = tree();
    directory(&mut tree, "usr/bin");
    symlink(&mut tree, "bin", "usr/bin");
    symlink(&mut tree, "out", "../../../../tmp");
    symlink(&mut tree, "usr/abs", "/etc");

    file(&mut tree, "bin/sh").expect("inserts");
    file(&mut tree, "out/x").expect("inserts");
    file(&mut tree, "usr/abs/y").expect("inserts");

    let want = [
        "/bin",
        "/etc",
        "/etc/y",
        "/out",
        "/tmp",
        "/tmp/x",
        "/usr",
        "/usr/abs",
        "/usr/bin",
        "/usr/bin/sh",
    ];
    assert_eq!(paths(&tree), want);
}

#[test]
fn symlinks_in_a_circle_and_paths_through_files_are_refused() {
    let mut tree = tree();
    symlink(&mut tree, "a", "b");
    symlink(&mut tree, "b", "a");
    file(&mut tree, "f").expect("inserts");

    assert_eq!(file(&mut tree, "a/x"), Err(TreeError::Loop { path: "a/x".to_owned() }));
    let refused = file(&mut tree, "f/x").expect_err("a file is no directory");
    assert_eq!(refused.to_string(), "path \"f/x\" leads through \"f\", which is not a directory");
}

#[test]
fn the_last_of_two_wins_and_a_directory_keeps_its_children() {
    let mut tree = tree();
    file(&mut tree, "d/f").expect("inserts");
    let attributes = Attributes { mode: 0o700, ..Attributes::default() };
    let again = tree.insert(b"d/", attributes.clone(), Node::Directory).expect("inserts");
    assert_eq!(paths(&tree), ["/d", "/d/f"]);
    assert_eq!(tree.get(again).attributes, attributes);

    file(&mut tree, "d").expect("inserts");
    assert_eq!(paths(&tree), ["/d"]);

    symlink(&mut tree, "d", "elsewhere");
    directory(&mut tree, "d");
    file(&mut tree, "d/g").expect("inserts");
    assert_eq!(paths(&tree), ["/d", "/d/g"]);
}

#[test]
fn hard_links_share_a_file_and_bad_ones_say_why() {
    let mut tree = tree();
    let inode = file(&mut tree, "d/f").expect("inserts");
    symlink(&mut tree, "s", "d");

    tree.hard_link(b"e/g", b"./s/f", None).expect("links");
    let parent = tree.resolve(b"e", &[b"e"], Missing::Stop).expect("resolves").expect("is there");
    assert_eq!(tree.get(parent).children.get(&b"g"[..]), Some(&inode));

    let said = |tree: &mut Tree, target: &str| {
        tree.hard_link(b"h", target.as_bytes(), None).expect_err("bad").to_string()
    };
    assert_eq!(
        said(&mut tree, "nowhere/f"),
        "hard link \"h\" names \"nowhere/f\", which is not there"
    );
    assert_eq!(said(&mut tree, "d"), "hard link \"h\" names \"d\", which is a directory");
    assert_eq!(said(&mut tree, "../d/f"), "path \"../d/f\" contains `..`");
    assert_eq!(paths(&tree), ["/d", "/d/f", "/e", "/e/g", "/s"]);
}

#[test]
fn names_targets_and_devices_that_no_file_system_has_are_refused() {
    let mut tree = tree();
    let mut insert =
        |path: &[u8], node| tree.insert(path, Attributes::default(), node).expect_err("refused");

    assert!(matches!(insert(&[b'n'; 256], Node::Fifo), TreeError::BadName { .. }));
    assert!(matches!(insert(b"a\0b", Node::Fifo), TreeError::BadName { .. }));
    assert!(matches!(
        insert(b"l", Node::Symlink(Box::default())),
        TreeError::BadTarget { bytes: 0, .. }
    ));
    assert!(matches!(
        insert(b"l", Node::Symlink(vec![b'x'; 4096].into())),
        TreeError::BadTarget { bytes: 4096, .. }
    ));
    assert!(matches!(
        insert(b"d", Node::CharDevice { major: 4096, minor: 0 }),
        TreeError::Device { .. }
    ));
    assert!(matches!(insert(b"/", Node::Fifo), TreeError::RootIsNoDirectory { .. }));
}

#[test]
fn depth_and_number_are_bounded_even_when_only_implied() {
    let mut tree = tree();

    let refused = file(&mut tree, &"d/".repeat(2000)).expect_err("too deep");

    assert_eq!(refused, TreeError::TooMany { limit: 1000 });
    let mut tree = Tree::new(1000, 1000);
    let node = Node::Symlink(vec![b'x'; 2000].into());
    let refused = tree.insert(b"l", Attributes::default(), node).expect_err("too much");
    assert_eq!(refused, TreeError::TooMuchMetadata { limit: 1000 });
}
