//! Logins, tokens and mirrors.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use bandsox_oci::{ImageStore, Policy, PullOptions, RegistrySettings, Source};

use crate::builder::Lines;
use crate::content::{layout, run, text};
use crate::hostile::{Answer, Fixture, Server};
use crate::registry::Registry;
use crate::{chain, pull};

/// The pull of [`child`] in a process of its own, whose environment is ours to set.
fn pull_with(images: &Path, name: &str, docker_config: &Path) -> Result<(), String> {
    outcome(
        command(images, name)
            .env("DOCKER_CONFIG", docker_config)
            .env("PATH", format!("{}:{}", text(docker_config), env::var("PATH").expect("is set"))),
    )
}

fn command(images: &Path, name: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("has a path"));
    command
        .args(["--exact", "auth::child", "--ignored", "--nocapture"])
        .env("TEST_IMAGES", images)
        .env("TEST_NAME", name);
    command
}

fn outcome(command: &mut Command) -> Result<(), String> {
    let out = command.output().expect("starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(()) } else { Err(said) }
}

#[test]
#[ignore = "runs in a process of its own, started by the other tests"]
fn child() {
    let images = env::var("TEST_IMAGES").expect("is set");
    let source = Source::parse(&env::var("TEST_NAME").expect("is set")).expect("parses");
    let mut options = crate::options();
    options.registries.allow_insecure("registry.invalid");
    let store = ImageStore::open(Path::new(&images)).expect("opens");
    if let Err(error) = store.pull(&source, Policy::Always, &options, &Lines, &|_| {}) {
        panic!("{}", chain(&error));
    }
}

#[test]
fn a_proxy_is_asked_except_for_loopback() {
    let (proxied, direct) = (Fixture::new(1, 1000), Fixture::new(1, 1000));
    let proxy = Server::start(move |request| proxied.answer(request));
    let registry = Server::start(move |request| direct.answer(request));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let by_proxy = |name: &str| {
        let address = format!("http://{}", proxy.host());
        outcome(command(dir.path(), name).env("HTTP_PROXY", address))
    };

    assert_eq!(by_proxy("registry.invalid/image:t"), Ok(()));
    assert!(proxy.asked("http://registry.invalid/v2/image/manifests/t").len() == 1);
    let before = proxy.asked("").len();
    assert_eq!(by_proxy(&format!("{}/image:t", registry.host())), Ok(()));
    assert_eq!(proxy.asked("").len(), before);
}

#[test]
fn an_archive_on_standard_input_gets_the_name_that_is_in_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let archive = dir.path().join("saved.tar");
    let from = format!("oci:{}:t", text(&layout(dir.path(), "t", 1, 1000)));
    run(
        "skopeo",
        &["copy", "-q", &from, &format!("docker-archive:{}:some/name:1", text(&archive))],
    );
    let images = dir.path().join("images");
    let input = fs::File::open(&archive).expect("opens");

    let pulled = outcome(command(&images, "docker-archive:-").stdin(input));

    assert_eq!(pulled, Ok(()));
    pull(&images, "some/name:1", Policy::Never).expect("is here");
}

#[test]
fn an_identity_token_is_exchanged_for_one_that_opens_the_image() {
    let fixture = Fixture::new(1, 1000);
    let server = Server::start(move |request| {
        let host = request.header("host").expect("has a host").to_owned();
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\n");
        let wanted = "scope=repository%3Aimage%3Apull&grant_type=refresh_token&client_id=bandsox&refresh_token=r3f";
        if request.path == "/token" && request.body == wanted {
            Answer::Whole(200, "", br#"{"access_token": "t0k"}"#.to_vec())
        } else if request.header("authorization") == Some("Bearer t0k") {
            fixture.answer(request)
        } else {
            Answer::Whole(401, Box::leak(challenge.into_boxed_str()), Vec::new())
        }
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let json = format!(r#"{{"auths": {{"{}": {{"identitytoken": "r3f"}}}}}}"#, server.host());
    fs::write(dir.path().join("config.json"), json).expect("writes");
    let name = format!("{}/image:t", server.host());

    assert_eq!(pull_with(&dir.path().join("images"), &name, dir.path()), Ok(()));
}

/// A registry that wants the login `user`, `secret`, with `image:t` in it.
fn private(dir: &Path) -> Registry {
    let passwords = dir.join("htpasswd");
    fs::write(&passwords, format!("user:{BCRYPT}\n")).expect("writes");
    let lines = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", text(&passwords));
    let registry = Registry::start_with(dir, &lines);
    let from = format!("oci:{}:t", text(&layout(dir, "t", 1, 1000)));
    let to = format!("docker://{}/image:t", registry.host());
    let login = ["--dest-creds", "user:secret", "--dest-tls-verify=false"];
    run("skopeo", &[&["copy", "--quiet"][..], &login, &[&from, &to]].concat());
    registry
}

#[test]
fn a_private_image_wants_the_login_that_docker_has_stored() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = private(dir.path());
    let name = format!("{}/image:t", registry.host());
    let images = dir.path().join("images");
    let config = dir.path().join("docker");
    fs::create_dir(&config).expect("makes a directory");

    let without = pull_with(&images, &name, &config).expect_err("is refused");
    // base64 of user:wrong and user:secret
    let auths = |auth: &str| {
        let json = format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.host());
        fs::write(config.join("config.json"), json).expect("writes");
    };
    auths("dXNlcjp3cm9uZw==");
    let wrong = pull_with(&images, &name, &config).expect_err("is refused");
    auths("dXNlcjpzZWNyZXQ=");

    assert!(without.contains("needs a login"), "{without}");
    assert!(wrong.contains("is not accepted"), "{wrong}");
    assert_eq!(pull_with(&images, &name, &config), Ok(()));
}

#[test]
fn a_credential_helper_is_asked() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = private(dir.path());
    let name = format!("{}/image:t", registry.host());
    let config = dir.path().join("docker");
    fs::create_dir(&config).expect("makes a directory");
    let helper = config.join("docker-credential-test");
    let script =
        "#!/bin/sh\ncat >/dev/null\necho '{\"Username\": \"user\", \"Secret\": \"secret\"}'\n";
    fs::write(&helper, script).expect("writes");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("sets a mode");
    let json = format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.host());
    fs::write(config.join("config.json"), json).expect("writes");

    assert_eq!(pull_with(&dir.path().join("images"), &name, &config), Ok(()));
}

#[test]
fn an_anonymous_token_is_fetched_once_and_shown_with_every_request() {
    let fixture = Fixture::new(3, 1000);
    let server = Server::start(move |request| {
        let challenge = "WWW-Authenticate: Bearer realm=\"/token\",service=\"s\"\r\n";
        let host = request.header("host").expect("has a host").to_owned();
        let challenge = challenge.replace("/token", &format!("http://{host}/token"));
        if request.path.starts_with("/token") {
            Answer::Whole(200, "", br#"{"token": "t0k"}"#.to_vec())
        } else if request.header("authorization") == Some("Bearer t0k") {
            fixture.answer(request)
        } else {
            Answer::Whole(401, Box::leak(challenge.into_boxed_str()), Vec::new())
        }
    });
    let dir = tempfile::tempdir().expect("a temporary directory");

    pull(dir.path(), &format!("{}/owner/image:t", server.host()), Policy::Missing).expect("pulls");

    let tokens = server.asked("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?scope=repository%3Aowner%2Fimage%3Apull&service=s");
    assert_eq!(server.asked("/blobs/").len(), 4);
}

#[test]
fn a_token_from_an_address_without_tls_is_not_asked_for() {
    let challenge = "WWW-Authenticate: Bearer realm=\"http://10.0.0.1/token\"\r\n";
    let server = Server::start(move |_| Answer::Whole(401, challenge, Vec::new()));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let name = format!("{}/image:t", server.host());

    let error = chain(&pull(dir.path(), &name, Policy::Missing).expect_err("is refused"));

    assert!(error.contains("which is not an https address"), "{error}");
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_when_the_mirror_does_not_have_it() {
    let (image, other) = (Fixture::new(1, 1000), Fixture::new(1, 1000));
    let server = |fixture: Option<Fixture>| {
        Server::start(move |request| match &fixture {
            Some(fixture) => fixture.answer(request),
            None => Answer::Whole(404, "", Vec::new()),
        })
    };
    let (registry, empty, mirror) = (server(Some(image)), server(None), server(Some(other)));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pull_by = |mirror: &Server, images: &str| {
        let mut registries = RegistrySettings::default();
        let text = format!("{}=http://{}", registry.host(), mirror.host());
        registries.add_mirrors(&text).expect("parses");
        let options = PullOptions { registries, ..crate::options() };
        let source = Source::parse(&format!("{}/image:t", registry.host())).expect("parses");
        let store = ImageStore::open(&dir.path().join(images)).expect("opens");
        store.pull(&source, Policy::Missing, &options, &Lines, &|_| {}).expect("pulls")
    };

    pull_by(&mirror, "a");
    assert_eq!((mirror.asked("/blobs/").len(), registry.asked("").len()), (2, 0));
    pull_by(&empty, "b");
    assert!(!empty.asked("/manifests/").is_empty());
    assert_eq!(registry.asked("/blobs/").len(), 2);
}

/// Of `secret`.
const BCRYPT: &str = "$2b$04$Z7IqFB4m.qLg.SbDg2VxOeA7m2WV0ZjuLLjKPliIyJ3u6S5OH9bUS";
