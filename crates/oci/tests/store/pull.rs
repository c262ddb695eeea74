//! From a real registry.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use bandsox_oci::{Image, ImageStore, Phase, Policy, Progress, PullError, PullOptions, Source};

use crate::builder::Lines;
use crate::content::layout;
use crate::registry::Registry;

fn pull(images: &Path, name: &str, policy: Policy) -> Result<Image, PullError> {
    let store = ImageStore::open(images).expect("opens");
    let source = Source::parse(name).expect("parses");
    store.pull(&source, policy, &PullOptions::default(), &Lines, &|_| {})
}

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
    assert_eq!(image.config.env.last().map(String::as_str), Some("A=b"));
    assert_eq!(image.config.cmd, ["/bin/sh"]);
    assert_eq!(image.config.user.as_deref(), Some("daemon"));
    assert_eq!(image.config.working_dir.as_deref(), Some("/srv"));
    assert_eq!(image.config.exposed_ports, ["80/tcp"]);
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
