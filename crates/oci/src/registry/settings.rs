//! Mirrors, and registries that are spoken to without TLS: `images.json` in the storage directory, and the environment.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

/// How registries are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// By registry (`docker.io`), the mirrors to ask first, in order.
    #[serde(default)]
    mirrors: BTreeMap<String, Vec<Mirror>>,
    /// `HOST` or `HOST:PORT` of registries that may be spoken to by plain HTTP, or with a certificate that nobody vouches
    /// for. Loopback addresses always may.
    #[serde(default)]
    insecure: Vec<String>,
}

/// A mirror: `https://HOST[:PORT]`, or `http://` where that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mirror {
    pub(super) scheme: Scheme,
    /// `HOST[:PORT]`.
    pub(super) host: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is no JSON, or has something in it that we do not know.
    #[error("{path} is not valid")]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A mirror that is no URL of a host.
    #[error("mirror {text:?} is not https://HOST[:PORT] or http://HOST[:PORT]")]
    Mirror {
        /// As it was given.
        text: String,
    },
}

impl RegistrySettings {
    /// Reads `images.json` of a storage directory, if it is there.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Read`] and [`SettingsError::Json`].
    pub fn load(storage: &Path) -> Result<Self, SettingsError> {
        let path = storage.join("images.json");
        let mut text = String::new();
        let read = std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => {
                serde_json::from_str(&text).map_err(|source| SettingsError::Json { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { path, source }),
        }
    }

    /// Adds what `BANDSOX_REGISTRY_MIRROR` has: mirrors of Docker Hub, or of another registry as `REGISTRY=URL`,
    /// separated by commas. They are asked before those of the file.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Mirror`].
    pub fn add_mirrors(&mut self, text: &str) -> Result<(), SettingsError> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        for word in words.collect::<Vec<_>>().into_iter().rev() {
            let (registry, url) = word.split_once('=').unwrap_or(("docker.io", word));
            let mirror = Mirror::try_from(url.to_owned())?;
            self.mirrors.entry(registry.to_owned()).or_default().insert(0, mirror);
        }
        Ok(())
    }

    /// Allows plain HTTP to `host`, which is `HOST` or `HOST:PORT`.
    pub fn allow_insecure(&mut self, host: &str) {
        self.insecure.push(host.to_owned());
    }

    pub(super) fn mirrors_of(&self, registry: &str) -> impl Iterator<Item = &Mirror> {
        self.mirrors.get(registry).into_iter().flatten()
    }

    /// Whether `HOST[:PORT]` may be spoken to by plain HTTP.
    pub(super) fn allows_http(&self, host: &str) -> bool {
        let bare = without_port(host);
        is_loopback(bare) || self.insecure.iter().any(|entry| entry == host || entry == bare)
    }
}

impl TryFrom<String> for Mirror {
    type Error = SettingsError;

    fn try_from(text: String) -> Result<Self, SettingsError> {
        let error = || SettingsError::Mirror { text: text.clone() };
        let url = Url::parse(&text).map_err(|_| error())?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(error()),
        };
        let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty();
        let host = host_of(&url).filter(|_| plain).ok_or_else(error)?;
        Ok(Self { scheme, host })
    }
}

/// `HOST[:PORT]` of a URL, as [`RegistrySettings::allows_http`] takes it.
pub(super) fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Whether a host name, without its port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `HOST` of `HOST:PORT`; an IPv6 address keeps its brackets.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        Some(_) | None => host,
    }
}

const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_for_what_the_user_names() {
        let mut settings = RegistrySettings::default();
        settings.allow_insecure("registry.lan:5000");

        for host in ["localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000"] {
            assert!(settings.allows_http(host), "{host}");
        }
        assert!(settings.allows_http("registry.lan:5000"));
        for host in ["registry.lan", "localhost.example", "10.0.0.1:5000", "127.0.0.1.example"] {
            assert!(!settings.allows_http(host), "{host}");
        }
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let mut settings: RegistrySettings =
            serde_json::from_str(r#"{"mirrors": {"docker.io": ["https://file.example"]}}"#)
                .expect("parses");

        settings
            .add_mirrors(
                "https://first.example, quay.io=http://127.0.0.1:5000,https://second.example",
            )
            .expect("parses");

        let hosts: Vec<_> = settings.mirrors_of("docker.io").map(|m| m.host.as_str()).collect();
        assert_eq!(hosts, ["first.example", "second.example", "file.example"]);
        assert_eq!(settings.mirrors_of("quay.io").count(), 1);
    }

    #[test]
    fn an_unknown_key_and_a_mirror_with_a_path_are_refused() {
        let parse = serde_json::from_str::<RegistrySettings>;

        assert!(parse(r#"{"mirror": {}}"#).is_err());
        assert!(parse(r#"{"mirrors": {"docker.io": ["https://x/path"]}}"#).is_err());
        assert!(RegistrySettings::default().add_mirrors("ftp://x").is_err());
    }
}
