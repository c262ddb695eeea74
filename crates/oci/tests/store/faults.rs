//! Registries that do not do what they should: a clear error, another attempt where it makes sense, nothing half-stored.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bandsox_oci::{Digest, Policy};
use serde_json::json;

use crate::hostile::{Answer, Fixture, Request, Server};
use crate::{chain, names, pull};

/// A server that answers the first `bad` requests that `which` picks in one way, and everything else well.
fn server(
    fixture: &Fixture,
    bad: usize,
    which: impl Fn(&Request) -> bool + Send + Sync + 'static,
    how: impl Fn(&Fixture) -> Answer + Send + Sync + 'static,
) -> Server {
    let (fixture, count) = (fixture.clone(), AtomicUsize::new(0));
    Server::start(move |request| {
        if which(request) && count.fetch_add(1, Ordering::Relaxed) < bad {
            how(&fixture)
        } else {
            fixture.answer(request)
        }
    })
}

fn is_manifest(request: &Request) -> bool {
    request.path.contains("/manifests/")
}

/// The error of a pull that must fail, after which no record, base or partial blob may be there.
fn refused(server: &Server) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let images = dir.path().join("images");
    let name = format!("{}/image:t", server.host());
    let error = pull(&images, &name, Policy::Missing).expect_err("is refused");
    assert_clean(&images);
    chain(&error)
}

fn assert_clean(images: &Path) {
    assert_eq!(names(&images.join("refs")), [""; 0]);
    assert!(!names(images).iter().any(|name| name.contains(".erofs")));
    for name in names(&images.join("blobs/sha256")) {
        let bytes = std::fs::read(images.join("blobs/sha256").join(&name)).expect("reads");
        assert_eq!(Digest::of(&bytes).hex(), name);
    }
}

/// Pulls well in the end; gives the layer requests.
fn succeeds(fixture: &Fixture, server: &Server) -> Vec<Request> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let images = dir.path().join("images");
    let name = format!("{}/image:t", server.host());
    let image = pull(&images, &name, Policy::Missing).expect("pulls in the end");
    assert_eq!(names(&images.join("blobs/partial")), [""; 0]);
    assert_eq!(image.record.layers.first(), Some(&Digest::of(fixture.layer(0))));
    server.asked(Digest::of(fixture.layer(0)).hex())
}

#[test]
fn a_refusal_is_final_and_says_whether_a_login_would_help() {
    let fixture = Fixture::new(1, 1000);
    for (status, words) in [(401, "needs a login"), (403, "needs a login"), (404, "does not exist")]
    {
        let server =
            server(&fixture, 99, is_manifest, move |_| Answer::Whole(status, "", Vec::new()));

        let error = refused(&server);

        assert!(error.contains(words) && error.contains(&status.to_string()), "{error}");
        assert_eq!(server.asked("/manifests/").len(), 1, "{status} was tried again");
    }
}

#[test]
fn a_registry_that_falters_is_asked_again_and_one_that_is_down_is_named() {
    let fixture = Fixture::new(1, 1000);
    for status in [429, 500, 503] {
        let answer = move |_: &Fixture| Answer::Whole(status, "", Vec::new());
        let falters = server(&fixture, 2, is_manifest, answer);
        succeeds(&fixture, &falters);
        assert_eq!(falters.asked("/manifests/").len(), 3);

        let down = server(&fixture, 99, is_manifest, answer);
        let error = refused(&down);
        assert!(error.contains(&status.to_string()), "{error}");
        assert_eq!(down.asked("/manifests/").len(), 3);
    }
}

#[test]
fn retry_after_is_honoured_and_too_long_a_wait_is_an_error_that_says_so() {
    let fixture = Fixture::new(1, 1000);
    let soon = |_: &Fixture| Answer::Whole(429, "Retry-After: 1\r\n", Vec::new());
    let late = |_: &Fixture| Answer::Whole(429, "Retry-After: 3600\r\n", Vec::new());
    let start = Instant::now();

    succeeds(&fixture, &server(&fixture, 1, is_manifest, soon));
    let waited = start.elapsed();
    let error = refused(&server(&fixture, 1, is_manifest, late));

    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert!(error.contains("try again in 3600 s"), "{error}");
}

#[test]
fn a_layer_that_breaks_off_or_stalls_is_resumed_where_it_stopped() {
    let fixture = Fixture::new(1, 300_000);
    let layer = fixture.clone();
    let which = move |request: &Request| layer.is_layer(&request.path, 0);

    let cut = |fixture: &Fixture| Answer::Cut(fixture.layer(0).to_vec(), 100_000);
    let requests = succeeds(&fixture, &server(&fixture, 1, which.clone(), cut));
    assert_eq!(requests.iter().map(Request::offset).collect::<Vec<_>>(), [0, 100_000]);

    let stall = |fixture: &Fixture| Answer::Stall(fixture.layer(0).to_vec(), 100_000);
    let requests = succeeds(&fixture, &server(&fixture, 1, which, stall));
    assert_eq!(requests.iter().map(Request::offset).collect::<Vec<_>>(), [0, 100_000]);
}

#[test]
fn a_layer_that_dribbles_is_resumed_and_a_registry_that_only_dribbles_is_given_up() {
    let fixture = Fixture::new(1, 300_000);
    let layer = fixture.clone();
    let which = move |request: &Request| layer.is_layer(&request.path, 0);
    let dribble = |at| move |fixture: &Fixture| Answer::Dribble(fixture.layer(0).to_vec(), at);

    let requests = succeeds(&fixture, &server(&fixture, 1, which.clone(), dribble(100_000)));
    let offsets: Vec<usize> = requests.iter().map(Request::offset).collect();
    assert!(offsets.len() == 2 && (100_000..101_000).contains(&offsets[1]), "{offsets:?}");

    let always = server(&fixture, 99, which, dribble(0));
    let error = refused(&always);
    assert!(error.contains("fewer than 1000 bytes came in 1 s"), "{error}");
    assert_eq!(always.asked(Digest::of(fixture.layer(0)).hex()).len(), 3);
}

#[test]
fn a_manifest_that_dribbles_is_given_up() {
    let fixture = Fixture::new(1, 1000);
    let dribble = |fixture: &Fixture| Answer::Dribble(fixture.manifest.to_string().into_bytes(), 0);

    let error = refused(&server(&fixture, 99, is_manifest, dribble));

    assert!(error.contains("fewer than 1000 bytes came in 1 s"), "{error}");
}

#[test]
fn a_server_that_knows_no_ranges_starts_over() {
    let fixture = Fixture::new(1, 300_000);
    let (layer, count) = (fixture.clone(), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        let whole = layer.layer(0).to_vec();
        match layer.is_layer(&request.path, 0) {
            true if count.fetch_add(1, Ordering::Relaxed) == 0 => Answer::Cut(whole, 100_000),
            true => Answer::Whole(200, "", whole),
            false => layer.answer(request),
        }
    });

    assert_eq!(succeeds(&fixture, &server).len(), 2);
}

#[test]
fn wrong_content_is_refused_after_one_more_attempt_and_both_digests_are_named() {
    let fixture = Fixture::new(1, 1000);
    let layer = fixture.clone();
    let which = move |request: &Request| layer.is_layer(&request.path, 0);
    let wrong = |_: &Fixture| Answer::Whole(200, "", vec![7; 1000]);

    let once = server(&fixture, 1, which.clone(), wrong);
    let always = server(&fixture, 99, which, wrong);
    succeeds(&fixture, &once);
    let error = refused(&always);

    assert!(error.contains(&Digest::of(&[7; 1000]).to_string()), "{error}");
    assert!(error.contains(&Digest::of(fixture.layer(0)).to_string()), "{error}");
    assert_eq!(always.asked(Digest::of(fixture.layer(0)).hex()).len(), 2);
}

#[test]
fn a_layer_of_another_length_than_the_manifest_says_is_refused() {
    let fixture = Fixture::new(1, 1000);
    for (bytes, words) in [(vec![7; 1001], "longer than the 1000"), (vec![7; 10], "ended after 10")]
    {
        let layer = fixture.clone();
        let which = move |request: &Request| layer.is_layer(&request.path, 0);
        let server = server(&fixture, 99, which, move |_| Answer::Whole(200, "", bytes.clone()));

        let error = refused(&server);

        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_manifest_of_another_digest_than_asked_for_is_refused() {
    let fixture = Fixture::new(1, 1000);
    let server = server(&fixture, 0, is_manifest, |_| Answer::Whole(200, "", Vec::new()));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let name = format!("{}/image@{}", server.host(), Digest::of(b"another"));

    let error = chain(&pull(dir.path(), &name, Policy::Missing).expect_err("is refused"));

    assert!(error.contains("wrong content"), "{error}");
    assert_clean(dir.path());
}

#[test]
fn an_endless_manifest_and_an_endless_redirect_end() {
    let fixture = Fixture::new(1, 1000);
    let huge = |_: &Fixture| Answer::Whole(200, "", vec![b' '; (4 << 20) + 1]);
    let error = refused(&server(&fixture, 99, is_manifest, huge));
    assert!(error.contains("longer than 4194304 bytes"), "{error}");

    let again = |_: &Fixture| Answer::Whole(307, "Location: /v2/x/manifests/y\r\n", Vec::new());
    let error = refused(&server(&fixture, 99, is_manifest, again));
    assert!(error.contains("more than 10 redirects"), "{error}");
}

#[test]
fn a_redirect_to_the_open_wire_is_not_followed() {
    let fixture = Fixture::new(1, 1000);
    let away = |_: &Fixture| Answer::Whole(307, "Location: http://10.0.0.1/x\r\n", Vec::new());

    let error = refused(&server(&fixture, 99, is_manifest, away));

    assert!(error.contains("redirected to 10.0.0.1 without TLS"), "{error}");
}

#[test]
fn manifests_that_cannot_be_used_are_refused_by_name() {
    let whole = Fixture::new(1, 1000);
    let with = |pointer: &str, value: serde_json::Value| {
        let mut fixture = whole.clone();
        *fixture.manifest.pointer_mut(pointer).expect("is there") = value;
        let server = server(&fixture, 0, is_manifest, |_| Answer::Whole(200, "", Vec::new()));
        refused(&server)
    };
    let kind = |text: &str| json!(format!("application/vnd.{text}"));
    let media = "/layers/0/mediaType";

    assert!(with(media, kind("docker.image.rootfs.foreign.diff.tar.gzip")).contains("elsewhere"));
    assert!(with(media, kind("oci.image.layer.v1.tar+gzip+encrypted")).contains("encrypted"));
    assert!(with(media, kind("example.wasm")).contains("not a tar"));
    assert!(
        with("/config/mediaType", kind("cncf.helm.config.v1+json")).contains("not a container")
    );
    assert!(with("/config/size", json!((4 << 20) + 1)).contains("at most 4194304"));
    assert!(with("/layers", json!([])).contains("has 0 layers"));
    assert!(with("/schemaVersion", json!(1)).contains("schema version 1"));
    assert!(with("/layers/0/digest", json!("md5:00")).contains("not"));
    assert!(with("/layers/0/size", json!(-1)).contains("not valid"));
    assert!(with("/layers/0/size", json!(1u64 << 60)).contains("at most"));
}

#[test]
fn an_image_for_another_machine_is_refused_with_its_name() {
    let mut fixture = Fixture::new(1, 1000);
    let config = String::from_utf8(fixture.blobs[0].clone()).expect("is text");
    fixture.blobs[0] = config.replace("amd64", "arm64").into_bytes();
    fixture.manifest["config"]["digest"] = json!(Digest::of(&fixture.blobs[0]));
    let server = server(&fixture, 0, is_manifest, |_| Answer::Whole(200, "", Vec::new()));

    let error = refused(&server);

    assert!(error.contains("is for linux/arm64; want linux/amd64"), "{error}");
}
