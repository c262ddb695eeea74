//! Debian's `docker-registry` on a port of loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::content::{run, text};

/// A registry that runs until it is dropped.
pub(crate) struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts one with its data below `dir`.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, "")
    }

    /// Starts one with more lines in its configuration.
    pub(crate) fn start_with(dir: &Path, more: &str) -> Self {
        let port = free_port();
        let data = dir.join("registry");
        fs::create_dir_all(&data).expect("makes a directory");
        let config = dir.join("registry.yml");
        let data = text(&data);
        let lines = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {data}}}\n  \
             delete: {{enabled: true}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{more}"
        );
        fs::write(&config, lines).expect("writes the configuration");
        let log = fs::File::create(dir.join("registry.log")).expect("makes a log");
        let child = Command::new("docker-registry")
            .args(["serve", text(&config)])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry starts; cargo xtask setup installs it");
        let registry = Self { child, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "docker-registry did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Copies `layout:tag` to `name` in the registry.
    pub(crate) fn push(&self, layout: &Path, tag: &str, name: &str) {
        let from = format!("oci:{}:{tag}", text(layout));
        let to = format!("docker://{}/{name}", self.host());
        run("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", &from, &to]);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("the registry can be killed");
        self.child.wait().expect("the registry can be waited for");
    }
}

/// A port that nobody listened on a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("binds");
    listener.local_addr().expect("has an address").port()
}
