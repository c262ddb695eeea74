//! From blobs to an image, and what is refused on the way.

use std::convert::Infallible;
use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;

/// A tar of one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = ::tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    let mut builder = ::tar::Builder::new(Vec::new());
    builder.append_data(&mut header, name, content).expect("appends");
    builder.into_inner().expect("ends")
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("compresses");
    gzip.finish().expect("compresses")
}

fn layer(bytes: &[u8], diff_id: Option<String>) -> Layer {
    let mut blob = tempfile::tempfile().expect("a temporary file");
    blob.write_all(bytes).expect("writes");
    Layer { blob, label: "top".to_owned(), diff_id }
}

fn diff_id(content: &[u8]) -> Option<String> {
    Some(format!("sha256:{}", crate::digest::of_bytes(content)))
}

fn built(images: &TempDir, layers: Vec<Layer>, key: &str) -> Result<Base, String> {
    let layers = layers.into_iter().map(Ok::<_, Infallible>);
    from_layers(layers, key, images.path(), &Limits::default(), &mut |_| {}).map_err(|error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    })
}

fn images() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Why these bytes are no layer; nothing may stay of the attempt.
fn refusal(bytes: &[u8], diff_id: Option<String>) -> String {
    let images = images();
    let refused = built(&images, vec![layer(bytes, diff_id)], "key").expect_err("refused");
    assert_eq!(fs::read_dir(images.path()).expect("lists").count(), 0);
    refused.strip_prefix("layer top cannot be used: ").expect("names the layer").to_owned()
}

#[test]
fn the_same_layers_give_the_same_image_however_they_are_compressed() {
    let images = images();
    let (lower, upper) = (archive("a", &[b'a'; 10_000]), archive("a", &[b'b'; 10_000]));

    let plain = vec![layer(&lower, diff_id(&lower)), layer(&upper, diff_id(&upper))];
    let packed =
        vec![layer(&gzipped(&lower), diff_id(&lower)), layer(&gzipped(&upper), diff_id(&upper))];

    let plain = built(&images, plain, "plain").expect("builds");
    let packed = built(&images, packed, "packed").expect("builds");
    assert_eq!(plain.path, packed.path);
    assert_eq!((plain.label.as_str(), packed.label.as_str()), ("plain", "packed"));
}

#[test]
fn layers_that_were_built_before_are_not_looked_at_again() {
    let images = images();
    let first = built(&images, vec![layer(&archive("a", b"a"), None)], "key").expect("builds");

    let never = std::iter::from_fn(|| -> Option<Result<Layer, Infallible>> { panic!("asked") });
    let again = from_layers(never, "key", images.path(), &Limits::default(), &mut |_| {});

    assert_eq!(again.expect("finds"), first);
}

#[test]
fn no_layers_and_empty_layers_make_an_empty_image() {
    let images = images();
    let none = built(&images, Vec::new(), "none").expect("builds");

    for (number, bytes) in [Vec::new(), vec![0; 1024], gzipped(&[0; 1024])].iter().enumerate() {
        let empty = built(&images, vec![layer(bytes, None)], &number.to_string());
        assert_eq!(empty.expect("builds").path, none.path, "{number}");
    }
}

#[test]
fn a_layer_that_fails_to_come_ends_the_build_with_its_own_error() {
    let images = images();
    let layers = [Ok(layer(&archive("a", b"a"), None)), Err(std::io::Error::other("no route"))];

    let refused =
        from_layers(layers.into_iter(), "key", images.path(), &Limits::default(), &mut |_| {});

    assert_eq!(refused.expect_err("failed").to_string(), "no route");
    assert_eq!(fs::read_dir(images.path()).expect("lists").count(), 0);
}

#[test]
fn content_that_is_not_what_was_promised_is_refused_with_both_digests() {
    let content = archive("a", b"a");
    let (want, got) = (crate::digest::of_bytes(b"else"), crate::digest::of_bytes(&content));

    assert_eq!(
        refusal(&gzipped(&content), diff_id(b"else")),
        format!(
            "its content has the digest sha256:{got}, while the image's configuration says sha256:{want}"
        )
    );
    for odd in ["sha512:00", "sha256:00", &got, &format!("sha256:{}", got.to_uppercase())] {
        let want = format!(
            "the image's configuration gives it the digest {odd:?}; want sha256: and 64 hexadecimal digits"
        );
        assert_eq!(refusal(&content, Some(odd.to_owned())), want);
    }
}

#[test]
fn padding_behind_the_archive_belongs_to_the_content_and_anything_else_is_refused() {
    let mut content = archive("a", b"a");
    let end = content.len();
    content.resize(end + 700_000, 0);
    let images = images();
    let padded = layer(&gzipped(&content), diff_id(&content));
    built(&images, vec![padded], "padded").expect("builds");

    for at in [end, end + 1, end + 699_999] {
        let mut content = content.clone();
        content[at] = 1;
        let want = format!(
            "there is something behind the archive's end, at byte {at} of the decompressed layer"
        );
        assert_eq!(refusal(&gzipped(&content), None), want);
    }
}

#[test]
fn blobs_that_are_cut_short_or_go_on_after_their_end_are_refused() {
    let noise: Vec<u8> =
        (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let blob = gzipped(&archive("noise", &noise));

    for cut in [1, 9, 10, blob.len() / 2, blob.len() - 8] {
        let said = refusal(&blob[..blob.len() - cut], None);
        assert!(said.contains("could not read the"), "{cut}: {said}");
    }
    assert_eq!(refusal(&blob[..1], None), "the archive is cut short at byte 1");
    let longer = [blob.as_slice(), b"twenty bytes garbage"].concat();
    let said = refusal(&longer, None);
    assert!(said.ends_with("invalid gzip header"), "{said}");
    let mut flipped = blob.clone();
    let crc = flipped.len() - 6;
    flipped[crc] ^= 1;
    let said = refusal(&flipped, None);
    assert!(said.ends_with("corrupt gzip stream does not have a matching checksum"), "{said}");
    assert_eq!(
        refusal(&[b'x'; 2000], None),
        "it is not a tar archive: member at byte 0 has a damaged header: checksum"
    );
}

#[test]
fn all_layers_together_may_have_as_many_bytes_as_the_limit_says() {
    let images = images();
    let content = archive("a", &vec![b'a'; 300_000]);
    let limit = |source_bytes| Limits { source_bytes, ..Limits::default() };
    let build = |limits: &Limits| {
        let layers = [(); 2].map(|()| Ok::<_, Infallible>(layer(&gzipped(&content), None)));
        from_layers(layers.into_iter(), "key", images.path(), limits, &mut |_| {})
    };
    let total = content.len() as u64 * 2;

    let refused = build(&limit(total - 1)).expect_err("too much");
    let mut cause: &dyn Error = &refused;
    while let Some(source) = cause.source() {
        cause = source;
    }
    assert!(cause.to_string().starts_with("the decompressed layers have more than"), "{cause}");
    build(&limit(total)).expect("just fits");
}

#[test]
fn progress_names_each_layer_and_ends_with_all_of_its_bytes() {
    let images = images();
    let blob = gzipped(&archive("a", &vec![b'a'; 3_000_000]));
    let mut seen = Vec::new();
    let layers = [(); 2].map(|()| Ok::<_, Infallible>(layer(&blob, None)));

    from_layers(layers.into_iter(), "key", images.path(), &Limits::default(), &mut |progress| {
        seen.push(match progress {
            Progress::Layer { index, label, done_bytes, total_bytes } => {
                assert_eq!((label, total_bytes), ("top", blob.len() as u64));
                (index, done_bytes)
            }
            Progress::Finishing => (2, 0),
        });
    })
    .expect("builds");

    assert!(seen.is_sorted(), "{seen:?}");
    let ends = seen.iter().filter(|(_, done)| *done == blob.len() as u64).count();
    assert_eq!((ends, seen.first(), seen.last()), (2, Some(&(0, 0)), Some(&(2, 0))));
}

#[test]
fn what_was_replaced_or_removed_takes_no_disk_and_reads_as_zeros() {
    use std::os::unix::fs::MetadataExt as _;
    let images = images();
    let lower = archive("a", &vec![b'a'; 8 << 20]);

    for (key, upper) in [("replaced", archive("a", b"new")), ("removed", archive(".wh.a", b""))] {
        let layers = vec![layer(&lower, None), layer(&upper, None)];
        let base = built(&images, layers, key).expect("builds");

        let stat = fs::metadata(&base.path).expect("stats");
        assert!(stat.size() > 8 << 20, "{key}");
        assert!(stat.blocks() * 512 < 1 << 20, "{key}: {} blocks", stat.blocks());
        let bytes = fs::read(&base.path).expect("reads");
        assert!(!bytes.windows(64).any(|window| window == [b'a'; 64]), "{key}");
        let name = base.path.file_name().and_then(|name| name.to_str()).expect("text");
        assert_eq!(name, format!("{}.erofs", crate::digest::of_bytes(&bytes)));
    }
}

#[test]
fn a_layer_that_is_compressed_by_xz_is_refused_before_a_byte_of_it_is_decompressed() {
    let blob = [&[0xfd, b'7', b'z', b'X', b'Z', 0][..], &[0; 100]].concat();

    let said = refusal(&blob, None);

    assert!(said.ends_with("compressed by xz; want gzip, zstd or none"), "{said}");
}
