//! List, inspect, remove, prune, import, export.

use std::fs;
use std::path::Path;

use bandsox_oci::{BaseBuilder, Destination, Image, ImageStore, Layers, Output, Policy, Source};

use crate::builder::Lines;
use crate::content::{layout, random, run, text};
use crate::{names, options, pull};

fn nobody(_: &Path, _: &[&str]) -> Vec<String> {
    Vec::new()
}

/// A store with one image of two layers under the name `oci:…:t`.
fn one(dir: &Path) -> (ImageStore, Image, String) {
    let name = format!("oci:{}:t", text(&layout(dir, "t", 2, 10_000)));
    let images = dir.join("images");
    let image = pull(&images, &name, Policy::Missing).expect("pulls");
    (ImageStore::open(&images).expect("opens"), image, name)
}

#[test]
fn an_image_is_found_by_its_name_and_by_the_beginning_of_its_digests() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, image, name) = one(dir.path());
    let manifest = image.record.manifest_digest.as_ref().expect("has a manifest");

    let inspected = store.inspect(&name, dir.path()).expect("is there");

    assert_eq!(inspected.config, Some(image.config.clone()));
    assert_eq!(inspected.listed.record, image.record);
    for other in [manifest.to_string(), manifest.hex()[..12].to_owned(), image.record.base.clone()]
    {
        let other = other.trim_end_matches(".erofs");
        assert_eq!(store.resolve(other, dir.path()).expect("is there"), image.record, "{other}");
    }
    assert_eq!(store.list().expect("lists").len(), 1);
    assert!(store.list().expect("lists")[0].complete);
    let error = store.resolve("busybox", dir.path()).expect_err("is not there").to_string();
    assert_eq!(error, "there is no image \"busybox\" here");
}

#[test]
fn an_image_in_use_stays_and_its_last_name_takes_everything_along() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, image, name) = one(dir.path());
    let layout = dir.path().join("layout");
    let second = store.import(&layout, "second:1", &options(), &Lines, &|_| {}).expect("imports");
    assert_eq!(second.base, image.base);
    // A VM of the first name, then of the second.
    let shared = image.base.clone();
    let used_as = |used: String| {
        let shared = shared.clone();
        move |base: &Path, others: &[&str]| {
            let elsewhere = base != shared || others.contains(&used.as_str());
            if elsewhere { Vec::new() } else { vec!["vm1".to_owned()] }
        }
    };
    let second_name = second.record.reference.clone();
    let used = used_as(image.record.reference.clone());
    let refused_first = store.remove(&name, dir.path(), &used).expect_err("is in use").to_string();
    assert_eq!(refused_first, format!("image {name} is in use by vm1"));
    let used = used_as(second_name);

    let untagged = store.remove(&name, dir.path(), &used).expect("only a name goes");
    let refused = store.remove("second:1", dir.path(), &used).expect_err("is in use").to_string();
    assert!(image.base.exists());
    let removed = store.remove("second:1", dir.path(), &nobody).expect("removes");

    assert!(!untagged.base_removed);
    assert_eq!(refused, "image docker.io/library/second:1 is in use by vm1");
    assert!(removed.base_removed && removed.bytes > 0);
    assert!(!image.base.exists());
    assert_eq!(names(&dir.path().join("images/blobs/sha256")), [""; 0]);
    assert_eq!(names(&dir.path().join("images/refs")), [""; 0]);
}

#[test]
fn a_prune_takes_what_nobody_has_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, image, name) = one(dir.path());
    let images = dir.path().join("images");
    let hex = |digit: &str| digit.repeat(64);
    for path in [
        format!("blobs/sha256/{}", hex("1")),
        format!("blobs/partial/{}", hex("2")),
        format!("{}.erofs", hex("3")),
        format!("{}.erofs", hex("4")),
        format!("refs/{}.json", hex("5")),
        "refs/.tmp-x".to_owned(),
        ".tmp-x".to_owned(),
        "something else".to_owned(),
    ] {
        fs::write(images.join(path), "x").expect("writes");
    }
    let used = images.join(format!("{}.erofs", hex("4")));

    let pruned = store
        .prune(&|base, _| if base == used { vec!["damaged vm2".to_owned()] } else { Vec::new() })
        .expect("prunes");

    assert_eq!(pruned.items.len(), 6, "{pruned:?}");
    assert!(used.exists() && images.join("something else").exists());
    assert_eq!(pull(&images, &name, Policy::Never).expect("is here"), image);
    assert_eq!(store.prune(&nobody).expect("prunes").items.len(), 1);
}

#[test]
fn an_exported_image_is_read_by_others_and_comes_back_the_same() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, image, name) = one(dir.path());
    let path = |name: &str| dir.path().join(name);
    let file = |name: &str| Output::File(path(name));
    let layout = Destination::Layout { dir: path("out"), tag: Some("x".to_owned()) };
    for (to, transport) in [
        (layout.clone(), "oci:out:x"),
        (layout, "oci:out:x"),
        (Destination::OciArchive(file("oci.tar")), "oci-archive:oci.tar"),
        (Destination::DockerArchive(file("docker.tar")), "docker-archive:docker.tar"),
    ] {
        store.export(&name, dir.path(), &to).expect("exports");
        let (kind, rest) = transport.split_once(':').expect("has a kind");
        let from = format!("{kind}:{}", text(&path(rest)));
        let there = path("copied");
        run("skopeo", &["copy", "-q", &from, &format!("dir:{}", text(&there))]);
        fs::remove_dir_all(&there).expect("removes");
    }

    for (from, name) in [("out", "a"), ("oci.tar", "b"), ("docker.tar", "c")] {
        let back = store.import(&path(from), name, &options(), &Lines, &|_| {}).expect("imports");
        assert_eq!(back.base, image.base, "{from}");
        assert_eq!(back.config, image.config, "{from}");
    }
    assert_eq!(names(dir.path()).iter().filter(|name| name.starts_with(".tmp-")).count(), 0);
}

#[test]
fn an_image_that_the_disk_has_spoilt_is_not_exported() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, image, name) = one(dir.path());
    let layer = dir.path().join("images/blobs/sha256").join(image.record.layers[1].hex());
    let mut bytes = fs::read(&layer).expect("reads");
    bytes[100] ^= 1;
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o600)).expect("sets a mode");
    fs::write(&layer, bytes).expect("writes");
    let archive = dir.path().join("out.tar");

    let to = Destination::OciArchive(Output::File(archive.clone()));
    let error = store.export(&name, dir.path(), &to).expect_err("is refused").to_string();

    assert!(error.contains("missing or damaged"), "{error}");
    assert!(!archive.exists());
}

#[test]
fn an_export_that_was_killed_goes_on_and_one_that_would_spoil_a_layout_does_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, image, name) = one(dir.path());
    let out = dir.path().join("out");
    let to = Destination::Layout { dir: out.clone(), tag: None };
    fs::create_dir_all(out.join("blobs/sha256")).expect("makes directories");
    fs::write(out.join("oci-layout"), "{}").expect("writes");
    fs::write(out.join("blobs/sha256/.tmp-x"), "the beginning").expect("writes");

    store.export(&name, dir.path(), &to).expect("goes on");

    assert_eq!(names(&out.join("blobs/sha256")).len(), 4);
    let index = fs::read(out.join("index.json")).expect("reads");
    for unknown in ["{", "{}"] {
        fs::write(out.join("index.json"), unknown).expect("writes");
        let error = store.export(&name, dir.path(), &to).expect_err("is refused").to_string();
        assert!(error.contains("could not add to the layout"), "{error}");
        assert_eq!(fs::read(out.join("index.json")).expect("reads"), unknown.as_bytes());
    }
    fs::write(out.join("index.json"), index).expect("writes");
    let layer = image.record.layers[1].hex();
    fs::remove_file(out.join("blobs/sha256").join(layer)).expect("removes");
    let stored = dir.path().join("images/blobs/sha256").join(layer);
    fs::set_permissions(&stored, fs::Permissions::from_mode(0o600)).expect("sets a mode");
    fs::write(&stored, "something else").expect("writes");
    let error = store.export(&name, dir.path(), &to).expect_err("is refused").to_string();
    assert!(error.contains("missing or damaged"), "{error}");
    assert!(!out.join("blobs/sha256").join(layer).exists(), "a spoilt layer was kept");
}

#[test]
fn an_imported_image_gets_no_name_that_promises_a_digest_or_means_something_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, _, _) = one(dir.path());
    let layout = dir.path().join("layout");
    let pinned = format!("a@sha256:{}", "0".repeat(64));

    for (name, why) in [
        (pinned.as_str(), "has a digest"),
        ("oci:x", "means a layout"),
        ("docker-archive:x", "means a layout or an archive"),
    ] {
        let refused = store.import(&layout, name, &options(), &Lines, &|_| {});
        let error = refused.expect_err("is refused").to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_base_that_was_cut_short_counts_as_absent_and_is_built_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let name = format!("oci:{}:t", text(&layout(dir.path(), "t", 2, 10_000)));
    let source = Source::parse(&name).expect("parses");
    let builders: [&dyn BaseBuilder; 2] = [&Lines, &Layers::default()];
    for (index, builder) in builders.into_iter().enumerate() {
        let images = dir.path().join(format!("images{index}"));
        let store = ImageStore::open(&images).expect("opens");
        let pull = || store.pull(&source, Policy::Missing, &options(), builder, &|_| {});
        let base = pull().expect("pulls").base;
        let whole = fs::read(&base).expect("reads");
        fs::remove_file(&base).expect("removes");
        fs::write(&base, &whole[..10]).expect("writes");

        assert!(!store.list().expect("lists")[0].complete);
        pull().expect("pulls again");

        assert!(fs::read(&base).expect("reads") == whole);
    }
}

#[test]
fn a_directory_a_tar_and_a_disk_become_images_without_layers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = ImageStore::open(&dir.path().join("images")).expect("opens");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("etc")).expect("makes a directory");
    fs::write(tree.join("etc/file"), random(5000)).expect("writes");
    let tar = dir.path().join("root.tar");
    run("tar", &["-C", text(&tree), "-cf", text(&tar), "."]);
    let disk = dir.path().join("disk.ext4");
    run("mke2fs", &["-q", "-t", "ext4", "-d", text(&tree), text(&disk), "4M"]);

    for (path, name) in [(&tree, "a"), (&tar, "b"), (&disk, "c")] {
        let image = store.import(path, name, &options(), &Lines, &|_| {}).expect("imports");
        assert_eq!(image.base.parent(), Some(dir.path().join("images").as_path()));
        assert_eq!(image.record.manifest_digest, None);
        let to = Destination::OciArchive(Output::File(dir.path().join("x.tar")));
        let error = store.export(name, dir.path(), &to).expect_err("has no layers").to_string();
        assert!(error.contains("no layers to export"), "{error}");
    }
    let copied = store.resolve("c", dir.path()).expect("is there").base;
    let copied = fs::read(dir.path().join("images").join(copied)).expect("reads");
    assert!(copied == fs::read(&disk).expect("reads"));
}
