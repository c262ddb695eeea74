//! What a registry says of an image, and what a user calls it.

use std::path::Path;

use bandsox_oci::fuzzing::{
    MAX_DOCUMENT_BYTES, MAX_LAYER_BYTES, MAX_LAYERS, Manifest, Said, config, document, written,
};
use bandsox_oci::{Kind, Platform, Source, classify};
use bandsox_spec::ImageConfig;

/// First byte: what follows. 0: a manifest or an index; 1: a config; 2: a name; 3: a platform.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    match mode % 4 {
        0 => said(rest),
        1 => configured(rest),
        2 => named(&String::from_utf8_lossy(rest)),
        _ => platform(&String::from_utf8_lossy(rest)),
    }
}

fn said(bytes: &[u8]) {
    let wanted = Platform::default();
    match document(bytes, &wanted) {
        Some(Said::Image(manifest)) => {
            let Manifest { config, layers } = &manifest;
            assert!(config.size <= MAX_DOCUMENT_BYTES && (1..=MAX_LAYERS).contains(&layers.len()));
            assert!(layers.iter().all(|layer| layer.size <= MAX_LAYER_BYTES));
            let again = document(&written(&manifest), &wanted);
            assert_eq!(again, Some(Said::Image(manifest)));
        }
        Some(Said::Chosen(Some(platform))) => {
            assert!(wanted.accepts(&platform), "{platform} is not {wanted}");
        }
        Some(Said::Chosen(None)) | None => {}
    }
}

fn configured(bytes: &[u8]) {
    let Some(config) = config(bytes) else { return };
    let json = serde_json::to_vec_pretty(&config).expect("text");
    assert!(json.len() <= ImageConfig::MAX_BYTES && config.exposed_ports.len() <= 1000);
    let words = config.env.iter().chain(&config.entrypoint).chain(&config.cmd);
    assert!(
        words.into_iter().all(|word| !word.contains('\0') && word.len() < 128 << 10),
        "no process can be given a NUL"
    );
}

fn named(text: &str) {
    // Nothing exists.
    if classify(text, |_| false) == Kind::Path {
        return;
    }
    let Ok(source) = Source::parse(text) else { return };
    let canonical = source.canonical(Path::new("/work"));
    if matches!(source, Source::Registry(_)) {
        let again = Source::parse(&canonical).expect("a canonical name is a name");
        assert_eq!(again, source, "{text:?} became {canonical:?}");
        assert_eq!(again.canonical(Path::new("/")), canonical);
    }
}

fn platform(text: &str) {
    let Ok(platform) = text.parse::<Platform>() else { return };
    let again: Platform = platform.to_string().parse().expect("as we write it");
    assert_eq!(again, platform);
    assert!(platform.accepts(&again));
}

/// Documents in order, names of every kind, and what is nearly so.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let oci = "application/vnd.oci.image";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json",
        "config":{{"mediaType":"{oci}.config.v1+json","digest":"{}","size":7}},
        "layers":[{{"mediaType":"{oci}.layer.v1.tar+gzip","digest":"{}","size":9,"annotations":{{"a":"b"}}}}]}}"#,
        digest("a"),
        digest("b")
    );
    let docker = "application/vnd.docker";
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{docker}.distribution.manifest.list.v2+json","manifests":[
        {{"mediaType":"{docker}.distribution.manifest.v2+json","digest":"{}","size":5,
        "platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
        {{"mediaType":"{docker}.distribution.manifest.v2+json","digest":"{}","size":6,
        "platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
        digest("c"),
        digest("d")
    );
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","created":"2026-01-02T03:04:05Z","rootfs":{{"type":"layers",
        "diff_ids":["{}"]}},"config":{{"Env":["A=b"],"User":"a:b","WorkingDir":"/w","Entrypoint":["e"],"Cmd":null,
        "Hostname":"h","ExposedPorts":{{"80/tcp":{{}}}},"Labels":{{"k":"v"}},"Volumes":{{"/v":{{}}}},"StopSignal":"SIGTERM"}}}}"#,
        digest("e")
    );
    let names = [
        "ubuntu".to_owned(),
        format!("ghcr.io/owner/name:tag@{}", digest("0")),
        "localhost:5000/a__b/c-d.e".to_owned(),
        "oci:dir:tag".to_owned(),
        format!("docker-archive:-:{}", "name:1"),
    ];
    let seed = |mode: u8, text: &str| [&[mode], text.as_bytes()].concat();
    let documents = [seed(0, &manifest), seed(0, &index), seed(1, &config)];
    let names = names.iter().map(|name| seed(2, name));
    documents.into_iter().chain(names).chain([seed(3, "linux/arm64/v8")]).collect()
}
