//! Structs that are records.

use std::fs;
use std::path::Path;

use vmstream::record::{Bytes, Record};
use vmstream::schema::{Criticality, Type};
use vmstream::{Map, Rule, Schema, Value};

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Record)]
enum Mode {
    OneShot,
    Periodic,
    #[field(name = "tsc")]
    Deadline,
}

/// A line of an interrupt controller.
#[derive(Clone, Debug, PartialEq, Record)]
struct Line {
    /// Which vector.
    #[field(min = 16, max = 255)]
    vector: u8,
    #[field(default = false)]
    masked: bool,
}

/// Something with a field of every type.
///
/// This is not in the schema.
#[derive(Clone, Debug, PartialEq, Record)]
#[record(name = "toy.all", version = 3, source = "manual, 2.1")]
struct All {
    /// Ticks since
    /// it began.
    #[field(unit = "ticks", required, alias = "time", alias = "clock")]
    ticks: u64,
    #[field(since = 2, default = -1)]
    offset: i32,
    #[field(default = Mode::OneShot)]
    mode: Mode,
    #[field(ignorable, default = String::new(), max_len = 8, source = "the owner's")]
    label: String,
    #[field(default = Bytes::default(), max_len = 64)]
    fifo: Bytes,
    mac: [u8; 6],
    #[field(bits(rx = 0, tx = 3), default = 0)]
    enable: u16,
    #[field(default = Vec::new(), max_len = 24)]
    lines: Vec<Line>,
    #[field(name = "due-at", unit = "ns")]
    due: Option<u64>,
}

fn all() -> All {
    All {
        ticks: 5,
        offset: -1,
        mode: Mode::Deadline,
        label: "uart".to_owned(),
        fifo: Bytes(vec![1, 2]),
        mac: [2, 0, 0, 0, 0, 1],
        enable: 9,
        lines: vec![Line { vector: 32, masked: false }, Line { vector: 33, masked: true }],
        due: None,
    }
}

#[test]
fn a_record_comes_back_and_fits_its_schema() {
    let state = all().save();

    All::schema().check().expect("a good schema");
    All::schema().check_state(&state).expect("a good record");
    assert_eq!(state.get("offset"), None, "it is at its default");
    assert_eq!(state.get("mode"), Some(&Value::from("tsc")));
    assert_eq!(All::load(state).expect("our own record"), all());
    let complete = All::schema().complete(&all().save());
    assert_eq!(All::load(complete).expect("our own record"), all());
}

#[test]
fn a_schema_says_what_the_struct_says() {
    let schema = All::schema();
    let field = |name| schema.root.field(name).expect("a field");

    assert_eq!((schema.version, schema.source.as_str()), (3, "manual, 2.1"));
    assert_eq!(schema.description, "Something with a field of every type.");
    let ticks = field("ticks");
    assert_eq!((ticks.unit.as_str(), ticks.critical), ("ticks", Criticality::Required));
    assert_eq!(ticks.description, "Ticks since it began.");
    assert_eq!(ticks.aliases, ["time", "clock"]);
    assert_eq!(field("offset").since, 2);
    assert_eq!(field("label").kind, Type::Text(8));
    assert_eq!(field("mac").kind, Type::Bytes(6, 6));
    assert_eq!(field("due-at").kind, Type::Optional(Box::new(Type::uint(64))));
    assert!(matches!(&field("enable").kind, Type::Int(int) if int.flags.len() == 2));
    assert_eq!(Schema::parse(&schema.document()).map(|again| again.digest()), Ok(schema.digest()));
}

#[test]
fn what_is_no_such_record_is_refused_by_its_path() {
    let refused = |change: fn(&mut Map)| {
        let mut state = all().save();
        change(&mut state);
        let broken = All::load(state).expect_err("it is none");
        assert_eq!(broken.rule, Rule::D1);
        broken.path
    };

    assert_eq!(refused(|state| drop(state.remove("ticks"))), "ticks");
    assert_eq!(refused(|state| drop(state.insert("mac", Value::Bytes(vec![0; 5])))), "mac");
    assert_eq!(refused(|state| drop(state.insert("mode", "idle"))), "mode");
    assert_eq!(refused(|state| drop(state.insert("more", 1_u8))), "more");
    let lines = |state: &mut Map| {
        state.insert("lines", vec![Value::Map(Map::new().with("vector", 300_u16))]);
    };
    assert_eq!(refused(lines), "lines.0.vector");
}

/// The hashes of all schemas here: who changes one sees it in review. `BLESS=1` writes them anew.
#[test]
fn schemas_have_the_hashes_that_are_listed() {
    let listing = vmstream::schema::listing(&[All::schema(), crate::sample::schema()]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format/schemas.sha256");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &listing).expect("the listing is written");
    }

    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), listing);
}
