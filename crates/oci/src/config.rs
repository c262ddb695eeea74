//! An image's config: what runs in it, and how.

use std::collections::BTreeMap;

use bandsox_spec::{Ignored, ImageConfig};
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::{Digest, DigestError};
use crate::platform::Platform;

/// An image's config: what of it is honoured, and what is only shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Described {
    /// What a VM is given.
    #[serde(flatten)]
    pub honoured: ImageConfig,
    /// `SIGTERM`, `15`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Free text of whoever made the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Paths that hold data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// A config file: what is to be run, and what describes the image itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) config: Described,
    /// What of it no VM can be given.
    pub(crate) ignored: Vec<Ignored>,
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
    /// More than a VM can be given.
    #[error(
        "the image's environment, command and the like take {bytes} bytes; a VM can be given {most}"
    )]
    TooLarge {
        /// How much there is, as JSON.
        bytes: usize,
        /// [`ImageConfig::MAX_BYTES`].
        most: usize,
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
    env: Option<Vec<Option<String>>>,
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
    let (config, ignored) = described(file.config.unwrap_or_default());
    // As metadata have it, a line for each value.
    let bytes = serde_json::to_vec_pretty(&config.honoured).map_err(ConfigError::Json)?.len();
    if bytes > ImageConfig::MAX_BYTES {
        return Err(ConfigError::TooLarge { bytes, most: ImageConfig::MAX_BYTES });
    }
    Ok(ConfigFile { config, ignored, platform, created: file.created, diff_ids })
}

fn described(section: Section) -> (Described, Vec<Ignored>) {
    let keys = |map: Option<BTreeMap<String, serde::de::IgnoredAny>>| {
        map.unwrap_or_default().into_keys().collect::<Vec<_>>()
    };
    let labels = section.labels.unwrap_or_default().into_iter();
    let (honoured, ignored) = ImageConfig {
        // Go reads a `null` in a list as empty text.
        env: section.env.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect(),
        user: section.user,
        working_dir: section.working_dir,
        entrypoint: section.entrypoint.unwrap_or_default(),
        cmd: section.cmd.unwrap_or_default(),
        hostname: section.hostname,
        exposed_ports: keys(section.exposed_ports),
    }
    .usable();
    let described = Described {
        honoured,
        stop_signal: section.stop_signal.filter(|signal| !signal.is_empty()),
        labels: labels.map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        volumes: keys(section.volumes),
    };
    (described, ignored)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(section: &str) -> Result<ConfigFile, ConfigError> {
        parse(format!(r#"{{"config": {section}}}"#).as_bytes())
    }

    #[test]
    fn null_is_as_good_as_absent_everywhere() {
        let nulls = r#"{"Env": null, "User": null, "WorkingDir": null, "Entrypoint": null, "Cmd": null,
            "Hostname": null, "ExposedPorts": null, "StopSignal": null, "Labels": null, "Volumes": null}"#;

        let empty = parse(b"{}").expect("parses");
        assert_eq!(config(nulls).expect("parses"), empty);
        assert_eq!(config("null").expect("parses"), empty);
        assert_eq!((empty.config, empty.platform), (Described::default(), None));
    }

    #[test]
    fn what_an_image_says_arrives() {
        let file = config(
            r#"{"Env": ["A=b=c"], "User": "1:2", "WorkingDir": "srv", "Entrypoint": "/init",
            "Cmd": ["x"], "Hostname": "h", "ExposedPorts": {"80/tcp": {}, "1-9/udp": {}},
            "StopSignal": "SIGINT", "Labels": {"k": "v", "n": null}, "Volumes": {"/data": {}}}"#,
        )
        .expect("parses");

        let Described { honoured, labels, volumes, stop_signal } = file.config;
        assert_eq!(honoured.env, ["A=b=c"]);
        assert_eq!(honoured.user.as_deref(), Some("1:2"));
        assert_eq!(honoured.working_dir.as_deref(), Some("/srv"));
        assert_eq!(honoured.entrypoint, ["/init"]);
        assert_eq!(honoured.exposed_ports, ["1-9/udp", "80/tcp"]);
        assert_eq!(labels.get("n").map(String::as_str), Some(""));
        assert_eq!((volumes, stop_signal.as_deref()), (vec!["/data".to_owned()], Some("SIGINT")));
        assert_eq!(file.ignored, []);
    }

    #[test]
    fn what_no_vm_can_be_given_is_left_out_and_the_image_is_not_refused_for_it() {
        let file = config(
            r#"{"Env": ["=x", "novalue", null, "A=b"], "Cmd": ["a\u0000b"], "Volumes": {"data": {}},
            "ExposedPorts": {"70000/tcp": {}, "80": {}}, "Hostname": "a_b"}"#,
        )
        .expect("parses");

        assert_eq!(file.config.honoured.env, ["A=b"]);
        assert_eq!(file.config.honoured.exposed_ports, ["80"]);
        assert_eq!(file.ignored.len(), 6, "{:?}", file.ignored);
    }

    #[test]
    fn more_than_a_vm_can_be_given_is_refused_with_size_and_limit() {
        let config = |count: usize| {
            let many = vec![format!("A={}", "x".repeat(1000)); count];
            config(&serde_json::json!({"Env": many}).to_string())
        };

        config(250).expect("fits");
        let error = config(300).expect_err("is too much").to_string();
        assert!(error.contains("take 303017 bytes; a VM can be given 262144"), "{error}");
    }

    #[test]
    fn a_layer_that_cannot_be_checked_is_refused() {
        assert!(parse(br#"{"rootfs": {"diff_ids": ["md5:0"]}}"#).is_err());
    }
}
