//! Layouts and archives in files of this host.

use std::fs;

use bandsox_oci::{Digest, Policy};

use crate::builder::Lines;
use crate::content::{layout, run, text};
use crate::{chain, names, pull};

#[test]
fn an_image_of_a_layout_is_followed_when_the_layout_changes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = layout(dir.path(), "t", 2, 1000);
    let (images, name) = (dir.path().join("images"), format!("oci:{}:t", text(&path)));

    let first = pull(&images, &name, Policy::Missing).expect("pulls");
    let same = pull(&images, &name, Policy::Missing).expect("is here");
    layout(dir.path(), "t2", 1, 1000);
    run("umoci", &["config", "--image", &format!("{}:t", text(&path)), "--config.env", "C=d"]);
    let changed = pull(&images, &name, Policy::Missing).expect("pulls");

    assert_eq!(first, same);
    assert_eq!(first.record.layers.len(), 2);
    assert_eq!(changed.config.honoured.env.last().map(String::as_str), Some("C=d"));
    assert_eq!(changed.base, first.base);
}

#[test]
fn a_layout_of_several_images_wants_one_to_be_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    layout(dir.path(), "a", 1, 1000);
    let path = layout(dir.path(), "b", 1, 1000);
    let images = dir.path().join("images");
    let error =
        |name: String| chain(&pull(&images, &name, Policy::Missing).expect_err("is refused"));

    assert!(
        error(format!("oci:{}", text(&path)))
            .contains("several images, and none was named; there is: a, b")
    );
    assert!(error(format!("oci:{}:c", text(&path))).contains("no image \"c\"; there is: a, b"));
    assert!(error(format!("oci:{}", text(dir.path()))).contains("is not an OCI layout"));
}

#[test]
fn a_damaged_layout_is_refused_and_the_store_stays_whole() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = layout(dir.path(), "t", 1, 10_000);
    let images = dir.path().join("images");
    let blobs = path.join("blobs/sha256");
    let largest = names(&blobs)
        .into_iter()
        .max_by_key(|name| fs::metadata(blobs.join(name)).expect("stats").len());
    let largest = blobs.join(largest.expect("has blobs"));
    let mut bytes = fs::read(&largest).expect("reads");
    bytes[5000] ^= 1;
    fs::write(&largest, bytes).expect("writes");

    let error = chain(
        &pull(&images, &format!("oci:{}:t", text(&path)), Policy::Missing).expect_err("is refused"),
    );

    assert!(error.contains("wrong content"), "{error}");
    assert_eq!(names(&images.join("refs")), [""; 0]);
    for name in names(&images.join("blobs/sha256")) {
        let bytes = fs::read(images.join("blobs/sha256").join(&name)).expect("reads");
        assert_eq!(Digest::of(&bytes).hex(), name);
    }
}

#[test]
fn what_docker_saves_becomes_an_image_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = layout(dir.path(), "t", 2, 10_000);
    let archive = dir.path().join("saved.tar");
    let from = format!("oci:{}:t", text(&path));
    run(
        "skopeo",
        &["copy", "-q", &from, &format!("docker-archive:{}:some/name:1", text(&archive))],
    );
    let images = dir.path().join("images");

    let name = format!("docker-archive:{}", text(&archive));
    let image = pull(&images, &name, Policy::Missing).expect("pulls");
    let again = pull(&images, &name, Policy::Missing).expect("is here");
    let named = pull(&images, &format!("{name}:some/name:1"), Policy::Missing).expect("pulls");
    let other = pull(&images, &format!("{name}:other"), Policy::Missing).expect_err("is refused");

    assert_eq!(image, again);
    assert_eq!(image.record.layers.len(), 2);
    assert_eq!(image.config.honoured.cmd, ["/bin/sh"]);
    assert_eq!(named.record.manifest_digest, image.record.manifest_digest);
    assert!(chain(&other).contains("there is: docker.io/some/name:1"), "{}", chain(&other));
    // Two layers, the config and the manifest.
    assert_eq!(names(&images.join("blobs/sha256")).len(), 4);
    assert_eq!(names(&images.join("blobs/partial")), [""; 0]);
}

#[test]
fn a_compressed_archive_is_the_image_that_is_in_it_also_for_an_import() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = layout(dir.path(), "t", 2, 10_000);
    let from = format!("oci:{}:t", text(&path));
    let images = dir.path().join("images");
    let store = bandsox_oci::ImageStore::open(&images).expect("opens");
    for (kind, name) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar")] {
        let archive = dir.path().join(name);
        run("skopeo", &["copy", "-q", &from, &format!("{kind}:{}", text(&archive))]);
        run("gzip", &[text(&archive)]);
        let archive = archive.with_extension("tar.gz");

        let pulled = pull(&images, &format!("docker-archive:{}", text(&archive)), Policy::Missing);
        let imported = store.import(&archive, "x", &crate::options(), &Lines, &|_| {});

        let (pulled, imported) = (pulled.expect("pulls"), imported.expect("imports"));
        assert_eq!(pulled.config.honoured.cmd, ["/bin/sh"]);
        assert_eq!(imported.record.manifest_digest, pulled.record.manifest_digest);
    }
}

#[test]
fn an_image_that_is_here_for_another_machine_is_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = layout(dir.path(), "t", 1, 1000);
    let name = format!("oci:{}:t", text(&path));
    let images = dir.path().join("images");
    pull(&images, &name, Policy::Missing).expect("pulls");
    let store = bandsox_oci::ImageStore::open(&images).expect("opens");
    let source = bandsox_oci::Source::parse(&name).expect("parses");
    let platform = "linux/arm64".parse().expect("parses");
    let options = bandsox_oci::PullOptions { platform, ..crate::options() };

    let error = store.pull(&source, Policy::Missing, &options, &Lines, &|_| {});

    let error = chain(&error.expect_err("is refused"));
    assert!(error.contains("want linux/arm64"), "{error}");
}

#[test]
fn an_archive_that_is_cut_off_or_something_else_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = layout(dir.path(), "t", 1, 100_000);
    let archive = dir.path().join("saved.tar");
    let from = format!("oci:{}:t", text(&path));
    run("skopeo", &["copy", "-q", &from, &format!("docker-archive:{}", text(&archive))]);
    let images = dir.path().join("images");
    let bytes = fs::read(&archive).expect("reads");

    run("gzip", &["-k", text(&archive)]);
    let compressed = fs::read(archive.with_extension("tar.gz")).expect("reads");

    for content in [&bytes[..50_000], &compressed[..50_000], b"not a tar", b""] {
        fs::write(&archive, content).expect("writes");
        let name = format!("docker-archive:{}", text(&archive));
        let error = chain(&pull(&images, &name, Policy::Missing).expect_err("is refused"));
        assert!(!error.contains(".tmp-") && !error.contains("partial"), "{error}");
        assert_eq!(names(&images.join("blobs/sha256")), [""; 0]);
        assert_eq!(names(&images.join("blobs/partial")), [""; 0]);
    }
}
