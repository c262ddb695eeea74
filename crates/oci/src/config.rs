//! An image's config: what runs in it, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::{Digest, DigestError};
use crate::platform::Platform;

/// What an image wants to be run as. Absent and empty are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `NAME=VALUE` each.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, …, as the image's `/etc/passwd` knows them.
    pub user: Option<String>,
    /// Absolute.
    pub working_dir: Option<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments to the entrypoint, or the whole command if there is none.
    pub cmd: Vec<String>,
    /// Docker's addition to OCI's config.
    pub hostname: Option<String>,
    /// `80/tcp` each. Nothing is opened by it.
    pub exposed_ports: Vec<String>,
    /// `SIGTERM`, `15`, …
    pub stop_signal: Option<String>,
    /// Free text of whoever made the image.
    pub labels: BTreeMap<String, String>,
    /// Absolute paths that hold data.
    pub volumes: Vec<String>,
}

/// A config file: [`ImageConfig`] and what describes the image itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) config: ImageConfig,
    /// `None` if it does not say.
    pub(crate) platform: Option<Platform>,
    pub(crate) created: Option<String>,
    /// Digests of the layers' uncompressed tars, from the lowest up.
    pub(crate) diff_ids: Vec<Digest>,
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No JSON, or not of the shape of a config.
    #[error("the image's config is not valid")]
    Json(#[source] serde_json::Error),
    /// A layer's digest that cannot be checked.
    #[error("the image's config names a layer that cannot be checked")]
    DiffId(#[from] DigestError),
    /// Another number of layers than the manifest.
    #[error("the image's config has {diff_ids} layers and its manifest {layers}")]
    LayerCount {
        /// In the config.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
    /// A word of the command, a variable or a name that no process can be given.
    #[error("the image's config has a bad value in {field}: {value:?}")]
    Value {
        /// As the config spells it.
        field: &'static str,
        /// The value, cut to 100 characters.
        value: String,
    },
    /// More than anybody has.
    #[error("the image's config has {count} values in {field}; at most {MAX_VALUES} are allowed")]
    Count {
        /// As the config spells it.
        field: &'static str,
        /// How many.
        count: usize,
    },
    /// An image for another machine.
    #[error("the image is for {actual}; want {wanted}")]
    Platform {
        /// What it is for.
        actual: Box<Platform>,
        /// What was asked for.
        wanted: Box<Platform>,
    },
}

/// Most entries of a list in the config.
const MAX_VALUES: usize = 4096;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    config: Option<Section>,
    #[serde(default)]
    rootfs: Option<Rootfs>,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// Go writes `null` for everything that is empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Section {
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default, deserialize_with = "words")]
    entrypoint: Option<Vec<String>>,
    #[serde(default, deserialize_with = "words")]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    #[serde(default)]
    stop_signal: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// Parses and checks a config of at most [`crate::MAX_DOCUMENT_BYTES`].
pub(crate) fn parse(bytes: &[u8]) -> Result<ConfigFile, ConfigError> {
    let file: File = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
    let platform = file.os.zip(file.architecture).and_then(|(os, architecture)| {
        let named = !os.is_empty() && !architecture.is_empty();
        named.then(|| Platform::new(&os, &architecture, file.variant.as_deref()))
    });
    let diff_ids = file.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    let diff_ids = diff_ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let config = checked(file.config.unwrap_or_default())?;
    Ok(ConfigFile { config, platform, created: file.created, diff_ids })
}

fn checked(section: Section) -> Result<ImageConfig, ConfigError> {
    let keys = |map: Option<BTreeMap<String, serde::de::IgnoredAny>>| {
        map.unwrap_or_default().into_keys().collect::<Vec<_>>()
    };
    let labels = section.labels.unwrap_or_default();
    let labels: BTreeMap<_, _> =
        labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
    count("Labels", labels.len())?;
    let working_dir = one("WorkingDir", section.working_dir, |_| true)?
        .map(|dir| if dir.starts_with('/') { dir } else { format!("/{dir}") });
    Ok(ImageConfig {
        env: many("Env", section.env, |text| text.find('=').is_some_and(|at| at > 0))?,
        user: one("User", section.user, |text| text.len() <= 256)?,
        working_dir,
        entrypoint: many("Entrypoint", section.entrypoint, |_| true)?,
        cmd: many("Cmd", section.cmd, |_| true)?,
        hostname: one("Hostname", section.hostname, |text| text.len() <= 64)?,
        exposed_ports: many("ExposedPorts", Some(keys(section.exposed_ports)), is_port)?,
        stop_signal: one("StopSignal", section.stop_signal, |text| text.len() <= 32)?,
        labels,
        volumes: many("Volumes", Some(keys(section.volumes)), |text| text.starts_with('/'))?,
    })
}

fn many(
    field: &'static str,
    values: Option<Vec<String>>,
    fits: impl Fn(&str) -> bool,
) -> Result<Vec<String>, ConfigError> {
    let values = values.unwrap_or_default();
    count(field, values.len())?;
    values.iter().try_for_each(|value| check(field, value, &fits))?;
    Ok(values)
}

fn one(
    field: &'static str,
    value: Option<String>,
    fits: impl Fn(&str) -> bool,
) -> Result<Option<String>, ConfigError> {
    let value = value.filter(|value| !value.is_empty());
    value.iter().try_for_each(|value| check(field, value, &fits))?;
    Ok(value)
}

fn check(field: &'static str, value: &str, fits: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
    if value.contains('\0') || value.len() > MAX_VALUE_BYTES || !fits(value) {
        return Err(ConfigError::Value { field, value: value.chars().take(100).collect() });
    }
    Ok(())
}

fn count(field: &'static str, count: usize) -> Result<(), ConfigError> {
    if count > MAX_VALUES { Err(ConfigError::Count { field, count }) } else { Ok(()) }
}

/// `80`, `80/tcp`, `8000-8010/udp`.
fn is_port(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |text: &str| text.parse::<u16>().is_ok();
    ["tcp", "udp", "sctp"].contains(&protocol)
        && ports.split_once('-').map_or(number(ports), |(low, high)| number(low) && number(high))
}

/// A list of words, or one text as the oldest images have it.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    let words = Option::<Words>::deserialize(deserializer)?;
    Ok(words.map(|words| match words {
        Words::Many(words) => words,
        Words::One(word) => vec![word],
    }))
}

/// A kernel takes no longer argument (`MAX_ARG_STRLEN`, 32 pages).
const MAX_VALUE_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(section: &str) -> Result<ImageConfig, ConfigError> {
        parse(format!(r#"{{"config": {section}}}"#).as_bytes()).map(|file| file.config)
    }

    #[test]
    fn null_is_as_good_as_absent_everywhere() {
        let nulls = r#"{"Env": null, "User": null, "WorkingDir": null, "Entrypoint": null, "Cmd": null,
            "Hostname": null, "ExposedPorts": null, "StopSignal": null, "Labels": null, "Volumes": null}"#;

        assert_eq!(config(nulls).expect("parses"), ImageConfig::default());
        assert_eq!(config("null").expect("parses"), ImageConfig::default());
        let empty = parse(b"{}").expect("parses");
        assert_eq!((empty.config, empty.platform), (ImageConfig::default(), None));
    }

    #[test]
    fn what_an_image_says_arrives() {
        let config = config(
            r#"{"Env": ["A=b=c"], "User": "1:2", "WorkingDir": "srv", "Entrypoint": "/init",
            "Cmd": ["x"], "Hostname": "h", "ExposedPorts": {"80/tcp": {}, "1-9/udp": {}},
            "StopSignal": "SIGINT", "Labels": {"k": "v", "n": null}, "Volumes": {"/data": {}}}"#,
        )
        .expect("parses");

        assert_eq!(config.env, ["A=b=c"]);
        assert_eq!(config.user.as_deref(), Some("1:2"));
        assert_eq!(config.working_dir.as_deref(), Some("/srv"));
        assert_eq!(config.entrypoint, ["/init"]);
        assert_eq!(config.exposed_ports, ["1-9/udp", "80/tcp"]);
        assert_eq!(config.labels.get("n").map(String::as_str), Some(""));
        assert_eq!(config.volumes, ["/data"]);
    }

    #[test]
    fn what_no_process_can_be_given_is_refused_by_field() {
        let field = |section: &str| config(section).expect_err("is refused").to_string();

        assert!(field(r#"{"Env": ["=x"]}"#).contains("in Env"));
        assert!(field(r#"{"Env": ["novalue"]}"#).contains("in Env"));
        assert!(field(r#"{"Cmd": ["a\u0000b"]}"#).contains("in Cmd"));
        assert!(field(r#"{"ExposedPorts": {"70000/tcp": {}}}"#).contains("in ExposedPorts"));
        assert!(field(r#"{"Volumes": {"data": {}}}"#).contains("in Volumes"));
        let many = format!(r#"{{"Cmd": [{}"x"]}}"#, r#""x","#.repeat(MAX_VALUES));
        assert!(field(&many).contains("4097 values in Cmd"));
        assert!(parse(br#"{"rootfs": {"diff_ids": ["md5:0"]}}"#).is_err());
    }
}
