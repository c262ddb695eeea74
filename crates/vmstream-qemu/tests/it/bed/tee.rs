//! Stands between two QEMUs and keeps what the source sends, connection by connection.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

type Kept = Arc<Mutex<Vec<Directions>>>;

/// What a connection carried forward, and what back.
#[derive(Clone, Default)]
struct Directions {
    forward: Arc<Mutex<Vec<u8>>>,
    back: Arc<Mutex<Vec<u8>>>,
}

/// Passes connections on and keeps what goes forward.
pub(crate) struct Tee {
    kept: Kept,
}

impl Tee {
    /// Listens on `here`; each connection is passed on to `there`.
    pub(crate) fn start(here: &Path, there: PathBuf) -> Self {
        let listener = UnixListener::bind(here).expect("a socket can be bound");
        let kept = Kept::default();
        let all = Arc::clone(&kept);
        thread::spawn(move || {
            for source in listener.incoming() {
                let Ok(source) = source else { return };
                let Ok(destination) = UnixStream::connect(&there) else { return };
                let one = Directions::default();
                all.lock().expect("not poisoned").push(one.clone());
                pass_on(source, destination, one);
            }
        });
        Self { kept }
    }

    /// What each connection carried forward.
    pub(crate) fn channels(&self) -> Vec<Vec<u8>> {
        let kept = self.kept.lock().expect("not poisoned");
        kept.iter().map(|one| one.forward.lock().expect("not poisoned").clone()).collect()
    }

    /// What the destination said on the first connection.
    pub(crate) fn back(&self) -> Vec<u8> {
        let kept = self.kept.lock().expect("not poisoned");
        kept[0].back.lock().expect("not poisoned").clone()
    }
}

fn pass_on(source: UnixStream, destination: UnixStream, kept: Directions) {
    let back = Arc::clone(&kept.back);
    let (mut back_from, mut back_to) =
        (destination.try_clone().expect("a clone"), source.try_clone().expect("a clone"));
    thread::spawn(move || copy(&mut back_from, &mut back_to, &back));
    let (mut from, mut to) = (source, destination);
    thread::spawn(move || copy(&mut from, &mut to, &kept.forward));
}

fn copy(from: &mut UnixStream, to: &mut UnixStream, kept: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 1 << 18];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        kept.lock().expect("not poisoned").extend(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    drop(to.shutdown(Shutdown::Write));
}
