//! A private authority, as companies have one: it vouches for hosts that no public one knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority whose key and certificate are in a directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes one in `dir`.
    ///
    /// # Panics
    ///
    /// When `openssl` fails.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let authority = Self { dir: dir.to_owned() };
        authority.make("authority", "basicConstraints=critical,CA:TRUE", false);
        authority
    }

    /// Its own certificate, to be trusted by whoever wants to.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        Self::certificate_in(&self.dir)
    }

    pub(crate) fn certificate_in(dir: &Path) -> PathBuf {
        dir.join("authority.pem")
    }

    /// Certificate and key of a host called `name`.
    pub(crate) fn certify(&self, name: &str) -> (PathBuf, PathBuf) {
        self.make("host", &format!("basicConstraints=CA:FALSE\nsubjectAltName=DNS:{name}"), true);
        (self.dir.join("host.pem"), self.dir.join("host.key"))
    }

    fn make(&self, file: &str, extensions: &str, signed: bool) {
        let path = |end: &str| self.dir.join(format!("{file}.{end}"));
        // Without the system's configuration, which may add extensions of its own.
        let config = format!("[req]\ndistinguished_name=name\n[name]\n[ext]\n{extensions}\n");
        fs::write(path("cnf"), config).expect("written");
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "30", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-extensions", "ext"]);
        openssl.args(["-subj", &format!("/CN=test {file}"), "-config"]).arg(path("cnf"));
        openssl.arg("-keyout").arg(path("key")).arg("-out").arg(path("pem"));
        if signed {
            openssl.arg("-CA").arg(self.certificate());
            openssl.arg("-CAkey").arg(self.dir.join("authority.key"));
        }
        let output = openssl.output().expect("openssl is installed (cargo xtask test sees to it)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
