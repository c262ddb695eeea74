//! From what a person types to the VM that is meant.

use bandsox_spec::VmId;
use bandsox_store::{NameError, RenameError, ResolveError};
use serde_json::json;

use crate::scene::Scene;

fn put(scene: &Scene, id: &str, name: Option<&str>) -> VmId {
    let id: VmId = id.parse().expect("a valid id");
    scene.write_metadata(&id, json!({"id": id, "name": name}).to_string());
    id
}

#[test]
fn a_vm_is_found_by_id_by_name_and_by_the_beginning_of_its_id() {
    let scene = Scene::new();
    let web = put(&scene, "abc123", Some("web"));
    let other = put(&scene, "abd456", None);

    for text in ["abc123", "web", "abc"] {
        assert_eq!(scene.store.resolve(text).ok(), Some(web.clone()), "{text}");
    }
    assert_eq!(scene.store.resolve("abd").ok(), Some(other));
}

#[test]
fn an_ambiguous_beginning_is_refused_with_the_candidates() {
    let scene = Scene::new();
    put(&scene, "abc123", Some("web"));
    put(&scene, "abd456", None);

    let refusal = scene.store.resolve("ab").expect_err("two begin so");

    assert_eq!(refusal.to_string(), "\"ab\" may mean any of abc123 (web), abd456");
}

#[test]
fn an_exact_id_wins_over_a_name_and_a_name_over_a_beginning() {
    let scene = Scene::new();
    let short = put(&scene, "abc", None);
    put(&scene, "abc123", None);
    let named = put(&scene, "ffff", Some("abc1"));

    assert_eq!(scene.store.resolve("abc").ok(), Some(short));
    assert_eq!(scene.store.resolve("abc1").ok(), Some(named));
}

#[test]
fn what_means_nobody_is_said_to() {
    let scene = Scene::new();
    put(&scene, "abc123", None);

    for text in ["", "xyz", "abc1234", "../abc123", "abc123.json"] {
        assert!(matches!(scene.store.resolve(text), Err(ResolveError::NotFound { .. })), "{text}");
    }
}

#[test]
fn names_that_older_versions_allowed_twice_are_ambiguous() {
    let scene = Scene::new();
    put(&scene, "aaa", Some("twin"));
    put(&scene, "bbb", Some("twin"));

    assert!(matches!(
        scene.store.resolve("twin"),
        Err(ResolveError::Ambiguous { candidates, .. }) if candidates.len() == 2
    ));
}

#[test]
fn a_damaged_vm_is_found_by_its_id() {
    let scene = Scene::new();
    let id = scene.vm();
    scene.damage(&id);

    assert_eq!(scene.store.resolve(&id.as_str()[..6]).ok(), Some(id));
}

#[test]
fn a_name_is_given_to_one_vm_only_and_never_one_that_is_an_id() {
    let scene = Scene::new();
    let web = put(&scene, "abc123", Some("web"));
    let other = put(&scene, "abd456", None);
    let rename =
        |id: &VmId, name: &str| scene.store.rename(id, &name.parse().expect("a valid name"));

    for taken in ["web", "abc123"] {
        let refusal = rename(&other, taken).expect_err("the name is taken");
        assert!(matches!(refusal, RenameError::Name(NameError::Taken { .. })), "{taken}");
    }
    rename(&web, "web").expect("its own name");
    rename(&web, "www").expect("a free name");
    rename(&other, "web").expect("free now");
    assert_eq!(scene.store.resolve("web").ok(), Some(other));
}
