//! Where images come from and go to, and what of their configuration is honoured. Registries and guests are elsewhere.

use std::fs;

use serde_json::{Value, json};

use crate::bed::eventually;
use crate::image_bed::Images;

#[test]
fn a_layout_whose_path_has_colons_is_an_image_like_any_other() {
    let images = Images::new();
    images.layout("a:1/layout:2", "t", "amd64", &json!({}));
    let digest = images.ok(&["image", "pull", "oci:a:1/layout:2:t"]);

    assert_eq!(images.ok(&["image", "pull", "oci:./a:1/layout:2"]), digest);
    fs::create_dir(images.path("out:3")).expect("made");
    images.ok(&["image", "export", "oci:a:1/layout:2:t", "oci:out:3:x:1"]);
    assert_eq!(images.ok(&["image", "pull", "oci:out:3:x:1"]), digest);
    fs::remove_dir_all(images.path("a:1")).expect("removed");
    images.ok(&["image", "rm", "oci:a:1/layout:2:t"]);
    assert_eq!(images.json(&["image", "ls"]).as_array().map(Vec::len), Some(2));
}

#[test]
fn what_no_vm_can_be_given_of_a_configuration_is_a_warning_and_no_refusal() {
    let images = Images::new();
    let config = json!({"Env": ["novalue", "GOOD=1"], "Hostname": "an odd_name", "Cmd": ["sh"],
        "ExposedPorts": {"x": {}, "80/tcp": {}}, "User": "1:2", "Labels": {"a": "b"}});
    images.layout("layout", "t", "amd64", &config);

    let (code, _, said) = images.run(&["image", "pull", "oci:layout:t"]);
    let (_, _, again) = images.run(&["image", "pull", "oci:layout:t"]);
    let shown = images.json(&["image", "inspect", "oci:layout:t"]);
    images.ok(&["create", "oci:layout:t", "--name", "web"]);

    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("warning: oci:layout:t: ").count(), 3, "{said}");
    assert!(said.contains(r#"Env "novalue" is left out: it is not NAME=VALUE"#), "{said}");
    assert_eq!(again, "");
    let honoured = json!({"env": ["GOOD=1"], "cmd": ["sh"], "exposed_ports": ["80/tcp"],
        "user": "1:2", "labels": {"a": "b"}});
    assert_eq!(shown["config"], honoured);
    assert_eq!(shown["ignored"].as_array().map(Vec::len), Some(3));
    let kept = images.json(&["inspect", "web"])["image_config"].clone();
    assert_eq!((&kept["env"], &kept["hostname"]), (&json!(["GOOD=1"]), &Value::Null));
}

#[test]
fn a_configuration_that_no_vm_can_be_given_is_refused_when_it_is_pulled() {
    let images = Images::new();
    let env: Vec<String> = (0..300).map(|n| format!("V{n}={}", "x".repeat(1000))).collect();
    images.layout("layout", "t", "amd64", &json!({ "Env": env }));

    let refused = images.refused(&["image", "pull", "oci:layout:t"]);

    assert!(refused.contains("bytes; a VM can be given 262144"), "{refused}");
    assert_eq!(images.json(&["image", "ls"]), json!([]));
}

#[test]
fn an_image_for_another_machine_can_be_had_and_no_vm_be_made_of_it() {
    let images = Images::new();
    images.layout("arm", "t", "arm64", &json!({"Cmd": ["sh"]}));
    let arm = ["--platform", "linux/arm64"];

    images.ok(&[&["image", "pull", "oci:arm:t"][..], &arm].concat());
    images.ok(&["image", "export", "oci:arm:t", "oci-archive:arm.tar"]);
    images.ok(&[&["image", "import", "arm.tar", "arm:1"][..], &arm].concat());

    for command in ["create", "run"] {
        let (code, _, said) = images.run(&[&[command, "arm:1"][..], &arm].concat());
        assert_ne!(code, Some(0));
        assert!(said.contains("a VM of linux/arm64 cannot run here"), "{said}");
    }
    for policy in ["missing", "never"] {
        let said = images.refused(&["create", "arm:1", "--pull", policy]);
        assert!(said.contains("arm:1 is here for linux/arm64, not for linux/amd64"), "{said}");
    }
    let said = images.refused(&["create", "oci:arm:t"]);
    assert!(said.contains("the image is for linux/arm64; want linux/amd64"), "{said}");
    assert_eq!(images.ok(&["list", "-q"]), "");
}

#[test]
fn an_export_over_an_old_file_and_one_after_a_kill_leave_one_file() {
    let images = Images::new();
    images.layout("layout", "t", "amd64", &json!({}));
    images.ok(&["image", "pull", "oci:layout:t"]);
    fs::create_dir(images.path("out")).expect("made");
    fs::write(images.path("out/.bandsox-export-7-0.tmp"), "of a killed export").expect("written");

    for _ in 0..2 {
        images.ok(&["image", "export", "oci:layout:t", "oci-archive:out/x.tar"]);
    }
    images.ok(&["image", "export", "oci:layout:t", "oci-archive:/dev/null"]);

    let left = fs::read_dir(images.path("out")).expect("there").flatten();
    assert_eq!(left.map(|it| it.file_name()).collect::<Vec<_>>(), ["x.tar"]);
    assert!(!fs::metadata("/dev/null").expect("there").is_file());
    let refused = images.refused(&["image", "export", "oci:layout:t", "oci-archive:out"]);
    assert!(refused.contains("is a directory"), "{refused}");
}

#[test]
fn an_export_that_is_killed_in_the_middle_is_swept_by_the_next() {
    let images = Images::new();
    images.layout_of(&vec![0; 64 << 20], ("layout", "t"), "amd64", &json!({}));
    images.ok(&["image", "pull", "oci:layout:t"]);
    fs::create_dir(images.path("out")).expect("made");
    let names = || {
        let names = fs::read_dir(images.path("out")).expect("there").flatten();
        names.map(|it| it.file_name().into_string().expect("text")).collect::<Vec<_>>()
    };
    let export = ["image", "export", "oci:layout:t", "oci-archive:out/x.tar"];

    let mut killed = images.command(&export).spawn().expect("starts");
    let begun = eventually("the export begins", || names().pop());
    killed.kill().expect("is ours");
    killed.wait().expect("is ours");
    assert!(begun.starts_with(".bandsox-export-"), "{begun}");
    assert_eq!(names(), [begun], "the kill came in the middle");
    images.ok(&export);

    assert_eq!(names(), ["x.tar"]);
}

#[test]
fn an_archive_without_names_says_so_when_it_is_asked_for_one() {
    let images = Images::new();
    images.layout("layout", "t", "amd64", &json!({}));
    images.ok(&["image", "pull", "oci:layout:t"]);
    // Only a name in a registry is one that `docker load` could use.
    images.ok(&["image", "export", "oci:layout:t", "docker-archive:x.tar"]);

    let refused = images.refused(&["image", "pull", "docker-archive:x.tar:some/name"]);

    let wanted = r#"there is no image "docker.io/some/name:latest"; no image in it has a name"#;
    assert!(refused.contains(wanted), "{refused}");
    let (code, _, said) = images.run(&["image", "import", "--insecure-registry", "h", "x", "y"]);
    assert_eq!(code, Some(2), "{said}");
}
