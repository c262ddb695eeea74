//! A real registry on loopback: Debian's `docker-registry`, with images that `skopeo` put there.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::authority::Authority;
use crate::deadline::eventually;

/// A registry that runs as long as this is there.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub host: String,
    dir: TempDir,
}

impl Registry {
    /// Starts an empty registry.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), "")
    }

    /// Starts an empty registry that speaks TLS and calls itself `name`, which an authority of its own vouches for.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_tls(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new(dir.path());
        let (certificate, key) = authority.certify(name);
        let tls =
            format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
        Self::start_in(dir, &tls)
    }

    /// The certificate of the authority that vouches for a registry with TLS.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        Authority::certificate_in(self.dir.path())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> &str {
        self.host.rsplit_once(':').map_or("", |(_, port)| port)
    }

    fn start_in(dir: TempDir, tls: &str) -> Self {
        // Free a moment ago, and nobody else on this host is looking for one just now.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
        let host = port.to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{host}\"{tls}}}\n",
            dir.path().join("data").display()
        );
        let file = dir.path().join("config.yml");
        fs::write(&file, config).expect("written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("docker-registry is installed (cargo xtask test sees to it)");
        eventually("the registry listens", || TcpStream::connect(&host).ok());
        Self { child, host, dir }
    }

    /// Puts the image of an OCI layout there as `name`, and returns what `bandsox` is to be told.
    ///
    /// # Panics
    ///
    /// When `skopeo` fails.
    pub fn put(&self, layout: &Path, name: &str) -> String {
        let reference = format!("{}/{name}", self.host);
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:{}", layout.display(), crate::IMAGE_TAG))
            .arg(format!("docker://{reference}"))
            .output()
            .expect("skopeo is installed (cargo xtask test sees to it)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}
