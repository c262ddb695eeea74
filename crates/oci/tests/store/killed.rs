//! A process that pulls is killed.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, fs};

use bandsox_oci::{Digest, ImageStore, Policy};

use crate::hostile::{Answer, Fixture, Request, Server};
use crate::{names, pull};

#[test]
#[ignore = "runs in a process of its own, started and killed by the other tests"]
fn child() {
    let images = env::var("TEST_IMAGES").expect("is set");
    let name = env::var("TEST_NAME").expect("is set");
    pull(Path::new(&images), &name, Policy::Always).expect("pulls");
}

/// Pulls in another process, which is killed when `ready` says so.
fn pull_and_kill(images: &Path, name: &str, ready: impl Fn() -> bool) {
    let child = Command::new(env::current_exe().expect("has a path"))
        .args(["--exact", "killed::child", "--ignored"])
        .env("TEST_IMAGES", images)
        .env("TEST_NAME", name)
        .spawn()
        .expect("starts");
    let child = Killed(child);
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(60), "the pull did not get that far");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(child);
}

/// Killed when it is dropped, also by a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("can be killed");
        self.0.wait().expect("can be waited for");
    }
}

#[test]
fn after_a_kill_in_the_middle_of_a_layer_the_next_pull_resumes_it() {
    let fixture = Fixture::new(2, 400_000);
    let good = fixture.clone();
    let stalls = std::sync::atomic::AtomicBool::new(true);
    let server = Server::start(move |request| {
        let first = good.is_layer(&request.path, 1)
            && stalls.swap(false, std::sync::atomic::Ordering::Relaxed);
        if first { Answer::Stall(good.layer(1).to_vec(), 150_000) } else { good.answer(request) }
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let images = dir.path().join("images");
    let name = format!("{}/image:t", server.host());
    let (whole, broken) = (Digest::of(fixture.layer(0)), Digest::of(fixture.layer(1)));
    let partial = images.join("blobs/partial").join(broken.hex());
    let length = || fs::metadata(&partial).map_or(0, |about| about.len());
    let first_is_there = || images.join("blobs/sha256").join(whole.hex()).exists();

    pull_and_kill(&images, &name, || length() == 150_000 && first_is_there());
    assert_eq!(names(&images.join("refs")), [""; 0]);
    pull(&images, &name, Policy::Missing).expect("pulls");

    assert_eq!(server.asked(whole.hex()).len(), 1);
    let offsets: Vec<usize> = server.asked(broken.hex()).iter().map(Request::offset).collect();
    assert_eq!(offsets, [0, 150_000]);
    assert_eq!(names(&images.join("blobs/partial")), [""; 0]);
}

#[test]
fn a_beginning_that_was_spoilt_is_thrown_away_after_one_attempt() {
    let fixture = Fixture::new(1, 400_000);
    let good = fixture.clone();
    let server = Server::start(move |request| good.answer(request));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let images = dir.path().join("images");
    ImageStore::open(&images).expect("opens");
    let layer = Digest::of(fixture.layer(0));
    let partial = images.join("blobs/partial").join(layer.hex());
    fs::write(&partial, vec![9; 100_000]).expect("writes");

    pull(&images, &format!("{}/image:t", server.host()), Policy::Missing).expect("pulls");

    let offsets: Vec<usize> = server.asked(layer.hex()).iter().map(Request::offset).collect();
    assert_eq!(offsets, [100_000, 0]);
}

#[test]
fn what_a_kill_leaves_is_swept_by_a_prune_and_not_while_it_is_being_written() {
    let fixture = Fixture::new(2, 400_000);
    let good = fixture.clone();
    let server = Server::start(move |request| {
        if good.is_layer(&request.path, 1) {
            Answer::Stall(good.layer(1).to_vec(), 150_000)
        } else {
            good.answer(request)
        }
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let images = dir.path().join("images");
    let name = format!("{}/image:t", server.host());
    let partial = images.join("blobs/partial").join(Digest::of(fixture.layer(1)).hex());
    let store = ImageStore::open(&images).expect("opens");

    pull_and_kill(&images, &name, || {
        let half = fs::metadata(&partial).is_ok_and(|about| about.len() == 150_000);
        if half {
            let busy =
                store.prune(&|_, _| Vec::new()).expect_err("a pull is under way").to_string();
            assert!(busy.contains("is being pulled"), "{busy}");
        }
        half
    });
    let pruned = store.prune(&|_, _| Vec::new()).expect("prunes");

    assert!(pruned.bytes() > 150_000);
    assert_eq!(names(&images.join("blobs/partial")), [""; 0]);
    assert_eq!(names(&images.join("blobs/sha256")), [""; 0]);
}
