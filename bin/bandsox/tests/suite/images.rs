//! Images that are here: who uses them, what they are called, what goes with them. No VM runs.

use std::fs;

use serde_json::{Value, json};

use crate::image_bed::Images;

#[test]
fn a_name_stays_as_long_as_a_vm_was_made_under_it_though_the_base_has_others() {
    let images = Images::new();
    images.layout("layout", "t", "amd64", &json!({}));
    images.ok(&["image", "import", "layout", "first:1"]);
    images.ok(&["image", "import", "layout", "second:1"]);
    let id = images.ok(&["create", "first:1", "--name", "web"]);

    let refused = images.refused(&["image", "rm", "first:1"]);
    let vms = |row: usize| images.json(&["image", "ls"])[row]["vms"].clone();

    assert!(refused.contains(&format!("in use by VM web ({id})")), "{refused}");
    assert_eq!([vms(0), vms(1)], [json!([id]), json!([])]);
    assert_eq!(images.json(&["image", "inspect", "second:1"])["used_by"], json!([]));
    assert_eq!(images.json(&["inspect", "web"])["image_reference"], "docker.io/library/first:1");
    images.ok(&["image", "rm", "second:1"]);

    // Metadata of before say no name: then it may be any.
    images.ok(&["image", "import", "layout", "second:1"]);
    let metadata = images.path(&format!("storage/metadata/{id}.json"));
    let text = fs::read_to_string(&metadata).expect("there");
    let line = text.lines().find(|line| line.contains("image_reference")).expect("there");
    let without = text.replace(&format!("{line}\n"), "");
    fs::write(&metadata, without.replacen("},\n}", "}\n}", 1)).expect("written");
    for name in ["first:1", "second:1"] {
        let refused = images.refused(&["image", "rm", name]);
        assert!(refused.contains("in use by VM web"), "{refused}");
    }
    fs::write(&metadata, "{").expect("written");
    let refused = images.refused(&["image", "rm", "second:1"]);
    assert!(refused.contains("which is damaged"), "{refused}");
}

#[test]
fn json_of_one_image_is_an_object_and_of_several_an_array_of_those_done() {
    let images = Images::new();
    for tag in ["a", "b"] {
        images.layout(tag, "t", "amd64", &json!({"Cmd": [tag]}));
    }
    let [a, b, none] = ["oci:a:t", "oci:b:t", "oci:none:t"];
    let in_json = |args: &[&str]| {
        let (code, out, err) = images.run(&[args, &["-o", "json"]].concat());
        (code, serde_json::from_str::<Value>(&out).ok(), err)
    };
    let names = |value: Option<Value>| -> Vec<String> {
        let value = value.expect("one JSON value");
        let list = value.as_array().expect("an array").iter();
        list.map(|it| it["reference"].as_str().expect("text").to_owned()).collect()
    };

    assert!(images.json(&["image", "pull", a])["reference"].is_string());
    let (code, pulled, err) = in_json(&["image", "pull", a, none, b]);
    assert_eq!((code, names(pulled).len()), (Some(1), 2), "{err}");
    assert!(err.contains("cannot pull oci:none:t"), "{err}");
    let (code, removed, err) = in_json(&["image", "rm", none, a]);
    assert_eq!((code, names(removed).len()), (Some(1), 1), "{err}");
    assert_eq!(in_json(&["image", "rm", none, a]).1, Some(json!([])));
    assert_eq!(in_json(&["image", "rm", none]).1, None);
    assert!(images.json(&["image", "rm", b])["base_removed"].is_boolean());
}

#[test]
fn hints_are_the_owners_alone_and_go_with_their_images() {
    use std::os::unix::fs::PermissionsExt as _;
    let images = Images::new();
    let hints = || {
        let hints = fs::read_dir(images.path("storage/images/.sources")).expect("there").flatten();
        hints.map(|hint| hint.path()).collect::<Vec<_>>()
    };
    images.layout("layout", "t", "amd64", &json!({}));
    fs::create_dir_all(images.path("root/etc")).expect("made");
    images.ok(&["image", "pull", "oci:layout:t"]);
    images.ok(&["image", "import", "root", "root:1"]);

    let about = fs::metadata(images.path("storage/images/.sources")).expect("there");
    assert_eq!((about.permissions().mode() & 0o777, hints().len()), (0o700, 2));
    images.ok(&["image", "rm", "root:1"]);
    assert_eq!(hints().len(), 1);
    fs::write(images.path("storage/images/.sources/x.json"), "{").expect("written");
    let base = images.json(&["image", "inspect", "oci:layout:t"])["base_path"].clone();
    fs::remove_file(base.as_str().expect("text")).expect("removed");
    let pruned = images.json(&["image", "prune"]);
    assert_eq!(pruned["items"].as_array().map(Vec::len), Some(2), "{pruned}");
    assert!(hints().is_empty(), "{:?}", hints());
}

#[test]
fn an_empty_name_is_called_so_and_a_very_long_one_is_not_repeated() {
    let images = Images::new();
    let long = "A".repeat(400);

    for command in [&["image", "pull"][..], &["create"], &["image", "rm"], &["image", "inspect"]] {
        let said = images.refused(&[command, &[""]].concat());
        assert!(said.contains("the image's name is empty"), "{said}");
        let said = images.refused(&[command, &[&long]].concat());
        assert!(said.contains(&format!("{}…", &long[..60])), "{said}");
        assert!(!said.contains(&long[..61]), "{said}");
    }
    let said = images.refused(&["image", "import", "x", ""]);
    assert!(said.contains(r#"cannot import x as "": the image's name is empty"#), "{said}");
    let (code, _, said) = images.run(&["image", "pull", "--insecure-registry", "http://x", "y"]);
    assert!(code == Some(2) && said.contains("without http://"), "{said}");
}

#[test]
fn what_takes_room_is_called_as_its_user_calls_it() {
    let images = Images::new();
    images.layout("layout", "t", "amd64", &json!({}));
    for name in ["a:1", "b:1"] {
        images.ok(&["image", "import", "layout", name]);
    }
    let base = images.json(&["image", "ls"])[0]["base"].as_str().expect("text").to_owned();

    let shown = images.ok(&["df", "-v"]);
    let names = "docker.io/library/a:1, docker.io/library/b:1";
    assert!(shown.contains(&format!("{names} ({}) ", &base[..12])), "{shown}");

    let (_, _, said) = images.run(&["image", "rm", "a:1"]);
    assert!(said.contains("its base has other names and stays"), "{said}");
    images.ok(&["create", "b:1"]);
    let said = images.refused(&["image", "rm", "b:1"]);
    assert!(said.contains("hint: `bandsox rm VM` removes a VM"), "{said}");
    assert!(!images.ok(&["image", "prune"]).contains("0 files"));
}
