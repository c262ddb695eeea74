//! From a real registry.

use std::fs;
use std::sync::Mutex;

use bandsox_oci::{Digest, ImageStore, Phase, Policy, Progress, PullOptions, Source};
use serde_json::json;

use crate::builder::Lines;
use crate::content::layout;
use crate::hostile::{Answer, Fixture, Server};
use crate::pull;
use crate::registry::Registry;

#[test]
fn an_image_from_a_registry_has_its_blobs_its_record_and_its_config() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start(dir.path());
    registry.push(&layout(dir.path(), "t", 3, 100_000), "t", "some/image:t");
    let images = dir.path().join("images");
    let events = Mutex::new(Vec::<Progress>::new());
    let store = ImageStore::open(&images).expect("opens");
    let name = format!("{}/some/image:t", registry.host());
    let source = Source::parse(&name).expect("parses");

    let image = store
        .pull(&source, Policy::Missing, &PullOptions::default(), &Lines, &|event| {
            events.lock().expect("locks").push(event);
        })
        .expect("pulls");

    assert_eq!(image.record.reference, name);
    assert_eq!(image.record.layers.len(), 3);
    assert_eq!(image.config.honoured.env.last().map(String::as_str), Some("A=b"));
    assert_eq!(image.config.honoured.cmd, ["/bin/sh"]);
    assert_eq!(image.config.honoured.user.as_deref(), Some("daemon"));
    assert_eq!(image.config.honoured.working_dir.as_deref(), Some("/srv"));
    assert_eq!(image.config.honoured.exposed_ports, ["80/tcp"]);
    assert_eq!(fs::read_to_string(&image.base).expect("reads").lines().count(), 3);
    assert_eq!(fs::read_dir(images.join("blobs/sha256")).expect("lists").count(), 5);
    assert_eq!(fs::read_dir(images.join("blobs/partial")).expect("lists").count(), 0);
    let events = events.into_inner().expect("unlocks");
    assert_eq!(events.last().map(|event| event.phase), Some(Phase::Done));
    assert_eq!(events.iter().filter(|event| event.phase == Phase::Pulled).count(), 4);
}

#[test]
fn an_image_that_is_here_needs_no_registry_and_one_that_is_not_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let images = dir.path().join("images");
    let name = {
        let registry = Registry::start(dir.path());
        registry.push(&layout(dir.path(), "t", 1, 1000), "t", "image:t");
        let name = format!("{}/image:t", registry.host());
        let missing = pull(&images, &name, Policy::Never).expect_err("is not here");
        assert_eq!(
            missing.to_string(),
            format!("image {name} is not here, and is not to be pulled")
        );
        pull(&images, &name, Policy::Always).expect("pulls");
        name
    };

    let image = pull(&images, &name, Policy::Missing).expect("is here");

    assert_eq!(image, pull(&images, &name, Policy::Never).expect("is here"));
}

#[test]
fn a_name_that_stands_for_something_else_by_now_is_followed_only_when_asked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::start(dir.path());
    let (images, name) = (dir.path().join("images"), format!("{}/image:t", registry.host()));
    registry.push(&layout(dir.path(), "old", 1, 1000), "old", "image:t");
    let old = pull(&images, &name, Policy::Missing).expect("pulls");
    registry.push(&layout(dir.path(), "new", 2, 1000), "new", "image:t");

    let missing = pull(&images, &name, Policy::Missing).expect("is here");
    let always = pull(&images, &name, Policy::Always).expect("pulls");
    let by_digest = format!("{}/image@{}", registry.host(), digest(&old));

    assert_eq!(missing, old);
    assert_eq!(always.record.layers.len(), 2);
    assert_eq!(pull(&images, &by_digest, Policy::Missing).expect("pulls").base, old.base);
}

#[test]
fn pulls_of_one_image_at_once_do_the_work_once() {
    let fixture = Fixture::new(4, 500_000);
    let good = fixture.clone();
    let server = Server::start(move |request| good.answer(request));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let name = format!("{}/image:t", server.host());

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(dir.path(), &name, Policy::Always).expect("pulls"));
        }
    });

    assert_eq!(server.asked("/blobs/").len(), 5);
}

#[test]
fn of_an_index_the_image_for_the_wanted_machine_is_taken() {
    let (amd, mut arm) = (Fixture::new(1, 1000), Fixture::new(1, 1000));
    let config = String::from_utf8(arm.blobs[0].clone()).expect("is text");
    arm.blobs[0] = config.replace("amd64", "arm64").into_bytes();
    arm.manifest["config"]["digest"] = json!(Digest::of(&arm.blobs[0]));
    let entry = |fixture: &Fixture, arch: &str| {
        let text = fixture.manifest.to_string();
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": text.len(),
            "digest": Digest::of(text.as_bytes()),
            "platform": {"os": "linux", "architecture": arch}})
    };
    let index =
        json!({"schemaVersion": 2, "manifests": [entry(&arm, "arm64"), entry(&amd, "amd64")]});
    let (amd_digest, arm_digest) = (Digest::of(amd.layer(0)), Digest::of(arm.layer(0)));
    let server = Server::start(move |request| {
        let arm_manifest = Digest::of(arm.manifest.to_string().as_bytes());
        if request.path.ends_with("/manifests/t") {
            Answer::Whole(200, "", index.to_string().into_bytes())
        } else if request.path.contains(arm_manifest.hex()) {
            arm.answer(request)
        } else {
            let other = Fixture { blobs: [&amd.blobs[..], &arm.blobs].concat(), ..amd.clone() };
            other.answer(request)
        }
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = ImageStore::open(dir.path()).expect("opens");
    let source = Source::parse(&format!("{}/image:t", server.host())).expect("parses");
    let pull_by = |policy: Policy, platform: &str| {
        let options =
            PullOptions { platform: platform.parse().expect("parses"), ..crate::options() };
        store.pull(&source, policy, &options, &Lines, &|_| {})
    };
    let pull_for = |platform: &str| pull_by(Policy::Always, platform);

    assert_eq!(pull_for("linux/amd64").expect("pulls").record.layers, [amd_digest]);
    let other = pull_by(Policy::Missing, "linux/arm64").expect_err("is of another").to_string();
    assert!(other.contains("is here for linux/amd64, not for linux/arm64"), "{other}");
    assert_eq!(pull_for("linux/arm64").expect("pulls").record.layers, [arm_digest]);
    let error = crate::chain(&pull_for("linux/s390x").expect_err("is not there"));
    assert!(
        error.contains("no image for linux/s390x; there is: linux/arm64, linux/amd64"),
        "{error}"
    );
}

#[test]
fn a_blob_that_the_disk_has_spoilt_is_brought_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new(1, 1000);
    let good = fixture.clone();
    let server = Server::start(move |request| good.answer(request));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let name = format!("{}/image:t", server.host());
    let image = pull(dir.path(), &name, Policy::Missing).expect("pulls");
    for blob in fixture.blobs.iter() {
        let path = dir.path().join("blobs/sha256").join(Digest::of(blob).hex());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("sets a mode");
        fs::write(&path, vec![0; blob.len()]).expect("writes");
    }
    fs::remove_file(&image.base).expect("removes");

    let again = pull(dir.path(), &name, Policy::Missing).expect("pulls");

    assert_eq!(again.base, image.base);
}

fn digest(image: &bandsox_oci::Image) -> &Digest {
    image.record.manifest_digest.as_ref().expect("has a manifest")
}
