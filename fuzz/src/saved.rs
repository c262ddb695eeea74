//! Archives of images, as `docker save` and friends write them.

use std::collections::BTreeSet;
use std::fs;

use bandsox_oci::Digest;
use bandsox_oci::fuzzing::unpack;

use crate::scratch::Scratch;
use crate::tarball::{member, mend, sparse};

/// What an archive may have, decompressed.
const MOST: u64 = 256 << 10;

/// First byte: what follows. 0: `manifest.json` of an archive that has a config, two layers and links to them; 1: likewise
/// `index.json`; 2: an archive whose checksums are to be mended; 3: a file as it is.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let archive = match mode % 4 {
        0 => with(&member(b'0', "manifest.json", "", rest)),
        1 => with(&member(b'0', "index.json", "", rest)),
        2 => {
            let mut archive = rest.to_vec();
            mend(&mut archive);
            archive
        }
        _ => rest.to_vec(),
    };
    stored(&archive);
}

/// Everything that a manifest of [`seeds`] names.
fn with(document: &[u8]) -> Vec<u8> {
    let blob = |content: &[u8]| {
        member(b'0', &format!("blobs/sha256/{}", Digest::of(content).hex()), "", content)
    };
    [
        document.to_vec(),
        member(b'0', "config.json", "", CONFIG.as_bytes()),
        member(b'0', "a/layer.tar", "", b"layer"),
        member(b'2', "b/layer.tar", "../a/layer.tar", b""),
        member(b'2', "round", "round", b""),
        member(b'1', "hard", "./a/layer.tar", b""),
        sparse("sparse", 4096, b"data", 100_000),
        blob(CONFIG.as_bytes()),
        blob(b"layer"),
        blob(manifest().as_bytes()),
    ]
    .concat()
}

fn stored(archive: &[u8]) {
    let scratch = Scratch::new();
    let image = unpack(&scratch.inner(), archive, MOST).expect("there is room");
    let wanted: BTreeSet<String> =
        image.iter().flatten().map(|digest| digest.hex().to_owned()).collect();
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(scratch.inner().join("sha256")).expect("lists") {
        let path = entry.expect("lists").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(Digest::of(&fs::read(&path).expect("reads")).hex(), name);
        there.insert(name);
    }
    assert!(there.is_subset(&wanted), "{there:?} of {wanted:?}");
    let partial = fs::read_dir(scratch.inner().join("partial")).expect("lists");
    assert_eq!(partial.count(), 0, "something half stays");
    scratch.assert_unharmed();
}

const CONFIG: &str =
    r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;

fn manifest() -> String {
    let oci = "application/vnd.oci.image";
    let (config, layer) = (Digest::of(CONFIG.as_bytes()), Digest::of(b"layer"));
    let length = CONFIG.len();
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{oci}.config.v1+json","digest":"{config}","size":{length}}},"layers":[{{"mediaType":"{oci}.layer.v1.tar","digest":"{layer}","size":5}}]}}"#
    )
}

/// Archives of both kinds, and ones that name what they should not.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let docker = |layers: &str, tags: &str| {
        format!("[{{\"Config\":\"config.json\",\"RepoTags\":{tags},\"Layers\":[{layers}]}}]")
    };
    let seed = |mode: u8, bytes: &[u8]| [&[mode], bytes].concat();
    let whole = docker(r#""a/layer.tar","b/layer.tar","hard""#, r#"["name:1"]"#);
    let manifest = manifest();
    let (digest, size) = (Digest::of(manifest.as_bytes()), manifest.len());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}]}}"#
    );
    vec![
        seed(0, whole.as_bytes()),
        seed(0, docker(r#""round","../../etc/passwd","sparse""#, "null").as_bytes()),
        seed(1, index.as_bytes()),
        seed(2, &with(&member(b'0', "manifest.json", "", whole.as_bytes()))),
        seed(3, b"neither tar nor anything"),
    ]
}
