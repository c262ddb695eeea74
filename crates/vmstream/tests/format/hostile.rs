//! Streams from strangers.

use std::fs;

use proptest::prelude::*;
use vmstream::frame::{COMPRESSED, Kind};
use vmstream::value::{decode, encode};
use vmstream::{Map, Reader, Value};

use crate::raw::{greeted, manifested, read_all};
use crate::sample;

/// The most memory that this process ever had, bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") * 1024
}

/// Numbers that are the same in each run.
fn numbers(mut x: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        usize::try_from(x % u64::try_from(below).expect("small")).expect("small")
    }
}

#[test]
fn a_thousand_flipped_bits_are_refused() {
    let stream = sample::stream();
    let mut next = numbers(0x9e37_79b9_7f4a_7c15);

    for _ in 0..1000 {
        let (at, bit) = (next(stream.len()), next(8));
        let mut broken = stream.clone();
        broken[at] ^= 1 << bit;

        assert!(read_all(broken.as_slice()).is_err(), "bit {bit} of byte {at}");
    }
    assert!(peak() < 64 << 20, "{} bytes", peak());
}

#[test]
fn every_truncation_of_the_ends_and_five_hundred_others_are_refused() {
    let stream = sample::stream();
    let mut next = numbers(0x2545_f491_4f6c_dd1d);
    let ends = (0..300).chain(stream.len() - 2000..stream.len());

    for end in ends.chain(std::iter::repeat_with(|| next(stream.len())).take(500)) {
        assert!(read_all(&stream[..end]).is_err(), "cut to {end} bytes");
    }
}

/// What takes the most memory for its length that anyone thought of.
fn bombs() -> Vec<Vec<u8>> {
    let deep = (0..31).fold(Value::List(Vec::new()), |inner, _| Value::List(vec![inner]));
    let singles = Value::List(vec![Value::List(vec![Value::Null]); 130_000]);
    let texts = Value::List(vec![Value::Text("x".to_owned()); 262_000]);
    let maps = Value::List(vec![Value::Map(Map::new().with("", Value::Null)); 130_000]);
    let mut claims = Vec::new();
    for _ in 0..31 {
        claims.extend([0x9a, 0, 3, 0xff, 0xe0]);
    }
    claims.extend(vec![0xf6; 1_000_000]);
    let values = [deep, singles, texts, maps]
        .map(|value| encode(&Value::Map(Map::new().with("name", "bomb").with("value", value))));
    values.into_iter().chain([claims]).collect()
}

#[test]
fn memory_stays_below_64_mib_whatever_comes() {
    let zlib = |bytes: &[u8]| {
        use std::io::Write;
        let level = flate2::Compression::best();
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), level);
        packer.write_all(bytes).expect("memory");
        packer.finish().expect("memory")
    };
    let symbols: Vec<_> = (0..80_000).map(|symbol| Value::from(format!("{symbol:05}"))).collect();

    for bomb in bombs() {
        let packed = zlib(&bomb);
        let raw = greeted().frame(Kind::Note, COMPRESSED, &packed).frame(Kind::Note, 0, &bomb);
        drop(bomb);
        read_all(raw.out.as_slice()).expect_err("it has no end");
    }
    let manifest = Map::new().with("page_size", 4096_u16).with("memory", symbols);
    read_all(manifested().value(Kind::Note, &Value::Map(manifest)).out.as_slice())
        .expect_err("it is no note");
    let claim = greeted().frame_with(5, 1, b"", |header| header.length = 6 << 20);
    read_all(claim.out.as_slice()).expect_err("nothing came");

    assert!(peak() < 64 << 20, "{} bytes", peak());
}

/// Any value that can be written.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-(1_i128 << 64)..1 << 64).prop_map(Value::Int),
        (-70_000_i128..70_000).prop_map(Value::Int),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
        ".{0,40}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(6, 200, 30, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..30).prop_map(Value::List),
            proptest::collection::vec((".{0,12}", inner), 0..30)
                .prop_map(|pairs| Value::Map(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_has_one_encoding_and_comes_back_from_it(value in value()) {
        let bytes = encode(&value);

        prop_assert!(value.fits());
        prop_assert_eq!(decode(&bytes), Ok(value));
    }

    #[test]
    fn bytes_that_decode_are_the_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(value) = decode(&bytes) {
            prop_assert_eq!(encode(&value), bytes);
        }
    }

    #[test]
    fn values_come_back_from_json(value in value()) {
        let json = vmstream::json::value_to_json(&value);
        let text = serde_json::to_string(&json).expect("JSON");
        let again = serde_json::from_str(&text).expect("our own JSON");

        prop_assert_eq!(vmstream::json::value_from_json(&again), Ok(value));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut stream = greeted().out;
        stream.extend(bytes);
        let mut reader = Reader::new(stream.as_slice());

        prop_assert!(reader.next_event().is_ok());
        prop_assert!(reader.next_event().is_err());
    }

    #[test]
    fn pages_come_back_from_any_gathering(
        kinds in proptest::collection::vec(0..4_u8, 1..64),
        encoding in 0..3_usize,
    ) {
        use vmstream::message::{Encoding, Pages, PagesBuilder, RunKind};
        let encoding = [Encoding::Raw, Encoding::Lz4, Encoding::Zstd][encoding];
        let mut builder = PagesBuilder::new(0, 4096, encoding);
        let mut want = Vec::new();
        for (number, kind) in (0..).zip(&kinds) {
            match kind {
                0 => builder.page(number, &[0; 4096]),
                1 => builder.run(number, 1, RunKind::Absent),
                _ => {
                    let page = sample::noise(number * 7 + u64::from(*kind), 4096);
                    builder.page(number, &page);
                    want.extend(page);
                }
            }
        }
        let pages = builder.build().expect("pages");
        let again = Pages::from_payload(pages.payload().to_vec()).expect("our own pages");

        prop_assert!(again.data().expect("data").as_ref() == want.as_slice());
        prop_assert_eq!(again.count(), u64::try_from(kinds.len()).expect("small"));
        prop_assert_eq!(again, pages);
    }
}
