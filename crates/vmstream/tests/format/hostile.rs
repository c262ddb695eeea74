//! Streams from strangers.

use std::fs;
use std::time::Instant;

use proptest::prelude::*;
use vmstream::contract::{Attribute, Policy};
use vmstream::frame::{COMPRESSED, Kind};
use vmstream::message::{DeviceRecord, Manifest, Message, Note, Switch, SwitchMode};
use vmstream::schema::{Field, Struct, Type};
use vmstream::value::{decode, encode};
use vmstream::{Map, Reader, Rule, Schema, Value};

use crate::raw::{Raw, greeted, manifested, read_all, schema_value};
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

/// A stream of frames that are made when they are asked for, so that only the reader's memory counts.
struct Lazy<I> {
    frames: I,
    raw: Raw,
    at: usize,
}

impl<I: Iterator<Item = (Kind, u32, Value)>> std::io::Read for Lazy<I> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let begun = self.raw.sequence > 0;
        if !begun || self.at == self.raw.out.len() {
            let Some((kind, epoch, value)) = self.frames.next() else { return Ok(0) };
            let mut raw = std::mem::take(&mut self.raw);
            if begun {
                raw.out = Vec::new();
            }
            (self.raw, self.at) = (raw.epoch(epoch).value(kind, &value), 0);
        }
        let got = std::io::Read::read(&mut &self.raw.out[self.at..], buffer)?;
        self.at += got;
        Ok(got)
    }
}

/// All that a reader keeps, each as large as it may be.
fn hoard() -> impl Iterator<Item = (Kind, u32, Value)> {
    let symbols = |schema: u32| (0..32_000).map(move |symbol| format!("{schema}{symbol:05}"));
    let many = move |id| {
        let field =
            Field::new("a", Type::Enum(symbols(id).collect())).default(format!("{id}00000"));
        let schema = Schema { root: Struct::new(vec![field]), ..sample::schema() };
        (Kind::Schema, 0, schema_value(id, &schema))
    };
    let attribute = |number: usize| {
        Attribute::new("a", &format!("{number}"), Value::Bytes(Vec::new()), Policy::Exact)
    };
    let manifest = move || {
        let contract = (0..17_000).map(attribute).collect();
        let manifest = Manifest { contract, devices: None, ..sample::manifest(0) };
        (Kind::Manifest, 0, manifest.to_value())
    };
    let record = |number: u32| {
        let path = format!("{number:0>255}");
        DeviceRecord { path, state: Map::new(), ..sample::record(0) }.to_value()
    };
    let records = move |frame: u32| {
        let numbers = frame * 3000..(frame * 3000 + 3000).min(65_536);
        (Kind::Device, 1, Value::List(numbers.map(record).collect()))
    };
    let switch = Switch { mode: SwitchMode::Stopped }.to_value();
    let note = || {
        let value = Value::List(vec![Value::List(vec![Value::Null]); 131_000]);
        let note = Note { name: "bomb".to_owned(), value };
        (Kind::Note, 1, note.to_value())
    };
    std::iter::once_with(|| (Kind::Hello, 0, sample::hello().to_value()))
        .chain((0..8).map(many))
        .chain(std::iter::once_with(manifest))
        .chain(std::iter::once((Kind::Switch, 1, switch)))
        .chain((0..22).map(records))
        .chain(std::iter::once_with(note))
}

#[test]
fn memory_stays_below_64_mib_when_all_that_is_kept_is_as_large_as_it_may_be() {
    let mut reader = Reader::new(Lazy { frames: hoard(), raw: Raw::new(), at: 0 });
    let mut events = 0;

    let error = loop {
        match reader.next_event() {
            Ok(_) => events += 1,
            Err(error) => break error,
        }
    };

    assert_eq!((events, error.rule()), (34, Some(Rule::F14)), "{error:?}");
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

/// Bytes that are often almost a value.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let heads = [
        0x00, 0x17, 0x18, 0x19, 0x1b, 0x38, 0x40, 0x41, 0x58, 0x60, 0x61, 0x78, 0x80, 0x81, 0x82,
        0x98, 0xa0, 0xa1, 0xa2, 0xb8, 0xf4, 0xf6,
    ];
    proptest::collection::vec(proptest::sample::select(heads.to_vec()), 1..5)
}

proptest! {
    #[test]
    fn a_value_has_one_encoding_and_comes_back_from_it(value in value()) {
        let bytes = encode(&value);

        prop_assert!(value.fits());
        prop_assert_eq!(decode(&bytes), Ok(value));
    }

    #[test]
    fn bytes_that_decode_are_the_encoding(bytes in heads()) {
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
        let again = Pages::from_payload(pages.payload()).expect("our own pages");

        prop_assert!(again.data().expect("data").as_ref() == want.as_slice());
        prop_assert_eq!(again.count(), u64::try_from(kinds.len()).expect("small"));
        prop_assert_eq!(again, pages);
    }
}

#[test]
fn a_schema_that_nests_deep_is_read_in_time() {
    let mut kind = Type::uint(8);
    for _ in 0..14 {
        let field = Field::new("f", kind);
        kind = Type::Struct(Struct::new(vec![field]));
    }
    let (name, version) = ("deep".to_owned(), 1);
    let (description, source) = (String::new(), String::new());
    let root = Struct::new(vec![Field::new("f", kind)]);
    let schema = Schema { name, version, description, source, root };
    let start = Instant::now();

    let again = Schema::parse(&schema.document()).expect("it is in the dialect");

    assert_eq!(again, schema);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
