//! A wire that a test can cut off from a distance: connections are led on until so many bytes have come back.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A port of loopback that leads to another one.
#[derive(Debug)]
pub struct Tap {
    /// `127.0.0.1:PORT`.
    pub host: String,
    passed: Arc<AtomicU64>,
    limit: Arc<AtomicU64>,
}

impl Tap {
    /// Leads to `target`, without a limit.
    ///
    /// # Panics
    ///
    /// When there is no port.
    #[must_use]
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("bound").to_string();
        let (passed, limit) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let tap = Self { host, passed: Arc::clone(&passed), limit: Arc::clone(&limit) };
        let target = target.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (passed, limit) = (Arc::clone(&passed), Arc::clone(&limit));
                let target = target.clone();
                // A connection that breaks is for its two ends to notice.
                thread::spawn(move || lead(client, &target, &passed, &limit).ok());
            }
        });
        tap
    }

    /// Bytes that have come back by now.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// Lets only so many more bytes come back, and then nothing until this is called again.
    pub fn allow(&self, bytes: u64) {
        self.limit.store(self.passed().saturating_add(bytes), Ordering::SeqCst);
    }

    /// Whether nothing more comes back.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.passed() >= self.limit.load(Ordering::SeqCst)
    }
}

fn lead(client: TcpStream, target: &str, passed: &AtomicU64, limit: &AtomicU64) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write).and(copied.map(drop))
    });
    let (mut from, mut to) = (server, client);
    let mut buffer = [0; 4096];
    loop {
        let got = from.read(&mut buffer)?;
        if got == 0 {
            return to.shutdown(Shutdown::Write);
        }
        while passed.load(Ordering::SeqCst) >= limit.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        passed.fetch_add(got as u64, Ordering::SeqCst);
        to.write_all(buffer.get(..got).unwrap_or_default())?;
    }
}
