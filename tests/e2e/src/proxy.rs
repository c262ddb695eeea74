//! A proxy of the kind that companies have between themselves and the world: HTTP's `CONNECT`.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A proxy on loopback, until the process ends.
#[derive(Debug)]
pub struct Proxy {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one that leads everybody to `target`, whatever host they ask for.
    ///
    /// # Panics
    ///
    /// When there is no port.
    #[must_use]
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, target) = (Arc::clone(&asked), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (seen, target) = (Arc::clone(&seen), target.clone());
                // A connection that breaks is for its two ends to notice.
                thread::spawn(move || lead(client, &target, &seen).ok());
            }
        });
        Self { url, asked }
    }

    /// The hosts that were asked for, one for each connection.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lead(mut client: TcpStream, target: &str, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let Some(host) = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(host.to_owned());
    let server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || pass(from, to));
    let down = pass(server, client);
    up.join().unwrap_or(Ok(())).and(down)
}

fn pass(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    to.shutdown(Shutdown::Write)?;
    copied.map(drop)
}
