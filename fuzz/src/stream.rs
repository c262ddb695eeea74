//! State streams: whatever comes, a reader says the same of it however it arrives, and what it takes has a form as JSON and back.

use std::io::{Cursor, Read};

use vmstream::archive::Archive;
use vmstream::contract::{Attribute, Policy};
use vmstream::frame::{COMPRESSED, HEADER_BYTES};
use vmstream::json::{from_json, to_json};
use vmstream::message::{
    DeviceRecord, Encoding, Hello, Manifest, Note, PagesBuilder, Purpose, Ram, Region, RunKind,
    Switch, SwitchMode,
};
use vmstream::schema::{Field, Schema, Struct, Type};
use vmstream::writer::{Compress, Finality};
use vmstream::{Map, Reader, Value, Writer};

/// First byte: what follows. 0: a stream as it is; else: one whose checksums are to be mended.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let mut stream = rest.to_vec();
    if mode % 2 > 0 {
        mend(&mut stream);
    }
    let (whole, skipped) = told(&mut stream.as_slice());
    let (by_byte, _) = told(&mut Bytewise(&stream));
    assert_eq!(whole, by_byte, "however it arrives");
    let scanned = Archive::scan(Cursor::new(&stream));
    let opened = Archive::open(Cursor::new(&stream));
    if whole.is_err() {
        return;
    }
    let mut is_true = opened.is_ok() || scanned.is_err();
    if let (Ok(mut scanned), Ok(mut opened)) = (scanned, opened) {
        is_true = scanned.index() == opened.index();
        assert_eq!(
            opened.verify_index().is_ok(),
            is_true,
            "an index that is not true is found out"
        );
        let paths: Vec<_> = scanned.index().devices.iter().map(|(path, _)| path.clone()).collect();
        for path in paths {
            scanned.device(&path).expect("a record that was read before");
        }
    }
    // An index that is not true does not come back.
    if skipped == 0 && is_true {
        let mut text = Vec::new();
        to_json(stream.as_slice(), &mut text).expect("what is read has a form");
        let mut again = Vec::new();
        from_json(text.as_slice(), &mut again).expect("and comes back");
        assert!(again == stream, "as the same bytes");
    }
}

/// All that a reader says of an input, or why it refuses it; and how many frames it passed over.
fn told(input: &mut impl Read) -> (Result<u64, String>, u64) {
    let mut reader = Reader::new(input);
    let mut events = 0;
    loop {
        match reader.next_event() {
            Ok(Some(_)) => events += 1,
            Ok(None) => break,
            Err(error) => {
                return (Err(format!("{events} {:?}", error.finding())), reader.skipped());
            }
        }
    }
    let end = reader.expect_end();
    (end.map(|()| events).map_err(|error| error.finding().to_string()), reader.skipped())
}

/// Gives one byte at a time.
struct Bytewise<'a>(&'a [u8]);

impl Read for Bytewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(buffer.get_mut(..most).unwrap_or_default())
    }
}

/// Puts right checksums in, frame after frame, as far as there are frames: or nothing but checksums would be tried.
pub(crate) fn mend(stream: &mut [u8]) {
    let mut at = 3;
    while let Some(frame) = stream.get_mut(at..).filter(|frame| frame.len() >= HEADER_BYTES) {
        let length: [u8; 8] = frame[24..32].try_into().expect("eight bytes");
        let length = usize::try_from(u64::from_be_bytes(length)).unwrap_or(usize::MAX);
        let (head, payload) = frame.split_at_mut(HEADER_BYTES);
        let length = length.min(payload.len());
        // Of a ram frame only the heads are covered.
        let covered = if head[2] == 11 { length.min(29) } else { length };
        let crc = crc32c::crc32c(&payload[..covered]);
        head[33..37].copy_from_slice(&crc.to_be_bytes());
        let crc = crc32c::crc32c(&head[..37]);
        head[38..42].copy_from_slice(&crc.to_be_bytes());
        at += HEADER_BYTES + length;
    }
}

/// A schema with a field of most types.
pub(crate) fn schema() -> Schema {
    let line = Struct::new(vec![
        Field::new("vector", Type::uint(16)).default(0_u8),
        Field::new("masked", Type::Bool),
    ]);
    let fields = vec![
        Field::new("fifo", Type::Bytes(0, 16)).default(Value::Bytes(Vec::new())),
        Field::new("lines", Type::List(Box::new(Type::Struct(line)), 0, 4)),
        Field::new("mode", Type::Enum(vec!["off".to_owned(), "on".to_owned()])),
        Field::new("armed", Type::Optional(Box::new(Type::int(64)))),
        Field::new("name", Type::Text(20)).default("none"),
    ];
    let (name, root) = ("toy.uart".to_owned(), Struct::new(fields));
    Schema { name, version: 1, description: String::new(), source: String::new(), root }
}

pub(crate) fn state() -> Map {
    let line = Map::new().with("masked", true).with("vector", 33_u8);
    Map::new()
        .with("fifo", Value::Bytes(vec![0, 0xab]))
        .with("lines", vec![Value::Map(line)])
        .with("mode", "on")
        .with("armed", Value::Null)
}

/// A stream with every kind of frame, of small pages.
pub(crate) fn stream(compress: Compress, with_index: bool) -> Vec<u8> {
    let mut writer =
        Writer::new(Vec::new(), &Hello::new("toy", "1", Purpose::State)).expect("a hello");
    writer.compress(compress);
    let id = writer.schema(&schema()).expect("a schema");
    let region =
        |name: &str| Region { name: name.into(), kind: "ram".into(), bytes: 8 * 512, gpa: None };
    let contract = vec![
        Attribute::new("machine", "vcpus", 2_u8, Policy::Exact).hint("--vcpus"),
        Attribute::new("uart", "lines", 1_u8, Policy::AtLeast)
            .follows("machine#vcpus")
            .absent(0_u8),
    ];
    let memory = vec![region("low"), region("high")];
    let manifest = Manifest { page_size: 512, memory, contract, ..Manifest::default() };
    writer.manifest(&manifest).expect("a manifest");
    for encoding in [Encoding::Raw, Encoding::Lz4, Encoding::Zstd] {
        let mut pages = PagesBuilder::new(0, 512, encoding);
        pages.page(1, &[7; 512]);
        pages.page(3, &[0; 512]);
        pages.run(4, 2, RunKind::SameAs(1));
        writer.pages(&pages.build().expect("pages")).expect("pages are written");
        writer.next_epoch();
    }
    let ram = Ram { region: 1, offset: 0, chunk: 4096, length: 512 };
    writer.ram(&ram, 512, &mut [3; 512].as_slice()).expect("memory is written");
    let note = Note { name: "toy".into(), value: vec![Value::Bool(true)].into() };
    writer.note(&note).expect("a note is written");
    let (path, kind, state) = ("bus/uart0".to_owned(), "toy.uart".to_owned(), state());
    let record = [DeviceRecord { path, kind, schema: id, state }];
    writer.devices(&record, Finality::Provisional).expect("a record is written");
    writer.switch(&Switch { mode: SwitchMode::Stopped }).expect("a switch is written");
    writer.devices(&record, Finality::Final).expect("a record is written");
    let ended = if with_index { writer.finish_with_index() } else { writer.finish() };
    ended.expect("all is there").0
}

/// Whole streams, plain and compressed, and one that is cut.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mode = |mode: u8, stream: &[u8]| [&[mode], stream].concat();
    let plain = stream(Compress::Nothing, true);
    let packed = stream(Compress::Metadata, false);
    assert_eq!(COMPRESSED, 4);
    // Its index names a device that there is not.
    let mut untrue = plain.clone();
    let path = untrue.windows(9).rposition(|bytes| bytes == b"bus/uart0").expect("an index");
    untrue[path + 8] = b'4';
    vec![
        mode(0, &packed),
        mode(1, &plain),
        mode(1, &packed),
        mode(1, &plain[..plain.len() / 2]),
        mode(1, &untrue),
    ]
}
