//! Streams as JSON and back.

use vmstream::json::{JsonError, from_json, to_json};
use vmstream::message::{Note, Purpose};
use vmstream::writer::Compress;
use vmstream::{Event, Map, Reader, Rule, Value, Writer};

use crate::sample;

fn json_of(stream: &[u8]) -> String {
    let mut json = Vec::new();
    to_json(stream, &mut json).expect("a good stream");
    String::from_utf8(json).expect("JSON is UTF-8")
}

fn stream_of(json: &str) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    from_json(json.as_bytes(), &mut out).map(|_| out)
}

#[test]
fn an_unedited_stream_comes_back_byte_for_byte() {
    let stream = sample::stream();

    let json = json_of(&stream);

    assert!(stream_of(&json).expect("our own JSON") == stream);
    assert_eq!(json_of(&stream_of(&json).expect("our own JSON")), json);
}

#[test]
fn values_that_json_lacks_come_back() {
    let mut hello = sample::hello();
    hello.purpose = Purpose::Contract;
    let mut writer = Writer::new(Vec::new(), &hello).expect("a hello");
    writer.compress(Compress::Nothing);
    let odd = Map::new()
        .with("$bytes", "text")
        .with("", Value::Bytes(vec![0xff; 3]))
        .with("least", Value::Int(-(1 << 64)))
        .with("greatest", u64::MAX)
        .with("$int", Value::Null);
    let note = |value| Note { name: "odd".to_owned(), value };
    writer.note(&note(Value::Map(odd))).expect("a note");
    writer.note(&note(Value::Map(Map::new().with("$$", 1_u8)))).expect("a note");
    let id = writer.schema(&sample::schema()).expect("a schema");
    writer.manifest(&sample::manifest(id)).expect("a manifest");
    let stream = writer.finish().expect("an end").0;

    assert!(stream_of(&json_of(&stream)).expect("our own JSON") == stream);
}

#[test]
fn an_edited_field_is_read_back_and_the_stream_is_whole() {
    let json = json_of(&sample::stream());
    let edited = json.replace(r#""divisor":3"#, r#""divisor":12"#).replace("00abff", "ab");

    let stream = stream_of(&edited).expect("a stream");

    let mut reader = Reader::new(stream.as_slice());
    let mut states = Vec::new();
    while let Some(event) = reader.next_event().expect("a good stream") {
        if let Event::Devices(records) = event {
            states.extend(records.into_iter().map(|record| record.state));
        }
    }
    let mut want = sample::state();
    want.remove("divisor");
    want.insert("fifo", Value::Bytes(vec![0xab]));
    assert_eq!(states, [want], "12 is the default and is not sent");
}

#[test]
fn j_1_json_that_is_no_frame_is_refused_by_its_line() {
    let json = json_of(&sample::stream());
    let broken = json.replacen(r#""payload""#, r#""pay""#, 1);
    let float = json.replacen("4096", "4096.5", 1);

    for (text, line) in [(broken, 1), (float, 3)] {
        match stream_of(&text) {
            Err(JsonError::Form { line: at, source }) => {
                assert_eq!((at, source.rule), (line, Rule::J1));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_edit_that_breaks_a_schema_is_refused() {
    let json = json_of(&sample::stream()).replace(r#""divisor":3"#, r#""divisor":65536"#);

    match stream_of(&json) {
        Err(JsonError::Write { source: vmstream::WriteError::Broken { broken, .. }, .. }) => {
            assert_eq!((broken.rule, broken.path.as_str()), (Rule::D1, "0.state.divisor"));
        }
        other => panic!("{other:?}"),
    }
}
