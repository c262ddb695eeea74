//! Images, their names and their configuration, as far as no VM runs. What a registry and a guest do is elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use bandsox_oci::Digest;
use bandsox_store::{Create, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::{bandsox, outcome};

/// A storage directory, and OCI layouts beside it.
pub(crate) struct Images {
    dir: TempDir,
}

impl Images {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Store::open(&dir.path().join("storage"), Create::Yes).expect("opens");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `bandsox ARGS` beside the layouts: exit code, standard output, standard error.
    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = bandsox();
        command.env("BANDSOX_STORAGE", self.path("storage")).env_remove("BANDSOX_REGISTRY_MIRROR");
        outcome(command.args(args).current_dir(self.dir.path()))
    }

    /// What a command prints that succeeds.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {err}");
        out.trim_end().to_owned()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// What a command says that fails.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}: {err}");
        err
    }

    /// A layout `name` with one image `tag` of one empty layer and this configuration.
    pub(crate) fn layout(&self, name: &str, tag: &str, architecture: &str, config: &Value) {
        let layout = self.path(name);
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("made");
        let put = |bytes: &[u8], kind: &str| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).expect("written");
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layer = put(&[0; 1024], "layer.v1.tar");
        let config = json!({"os": "linux", "architecture": architecture, "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = put(config.to_string().as_bytes(), "config.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let mut manifest = put(manifest.to_string().as_bytes(), "manifest.v1+json");
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        write(&layout.join("oci-layout"), &json!({"imageLayoutVersion": "1.0.0"}));
        write(&layout.join("index.json"), &json!({"schemaVersion": 2, "manifests": [manifest]}));
    }
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).expect("written");
}

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
