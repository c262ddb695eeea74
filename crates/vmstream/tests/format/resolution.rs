//! A writer's schema against a reader's.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use vmstream::resolve::{Forecast, forecast, resolve};
use vmstream::schema::{Criticality, Field, Int, Struct, Type};
use vmstream::value::encode;
use vmstream::{Map, Schema, Value};

fn schema(fields: Vec<Field>) -> Schema {
    Schema {
        name: "toy.thing".to_owned(),
        version: 1,
        description: String::new(),
        source: String::new(),
        root: Struct::new(fields),
    }
}

fn byte(name: &str) -> Field {
    Field::new(name, Type::uint(8))
}

/// The codes of a forecast: of refusals with `no `, of conditions with `while `.
fn told(writer: &Schema, reader: &Schema) -> Vec<String> {
    let (word, findings) = match forecast(writer, reader) {
        Forecast::Yes => return vec!["yes".to_owned()],
        Forecast::OnlyWhile(findings) => ("while", findings),
        Forecast::No(findings) => ("no", findings),
    };
    findings.iter().map(|each| format!("{word} {} {}", each.code, each.path)).collect()
}

fn told_of(writer: Vec<Field>, reader: Vec<Field>) -> Vec<String> {
    told(&schema(writer), &schema(reader))
}

fn told_of_types(writer: Type, reader: Type) -> Vec<String> {
    told_of(vec![Field::new("a", writer)], vec![Field::new("a", reader)])
}

#[test]
fn a_field_that_only_the_writer_has_is_told_by_its_criticality() {
    let with = |critical| vec![byte("a").default(0_u8).critical(critical), byte("b")];
    let told = |critical| told_of(with(critical), vec![byte("b")]);

    assert_eq!(told(Criticality::Ignorable), ["yes"]);
    assert_eq!(told(Criticality::Critical), ["while only-while-default a"]);
    assert_eq!(told(Criticality::Required), ["no unknown-required-field a"]);
    assert_eq!(told_of(vec![byte("a")], vec![]), ["no unknown-required-field a"]);
}

#[test]
fn a_field_that_only_the_reader_has_needs_a_default() {
    assert_eq!(told_of(vec![], vec![byte("a").default(0_u8)]), ["yes"]);
    assert_eq!(told_of(vec![], vec![byte("a")]), ["no missing-field a"]);
}

#[test]
fn a_renamed_field_is_found_by_either_side() {
    let mut renamed = byte("new");
    renamed.aliases = vec!["old".to_owned()];

    assert_eq!(told_of(vec![byte("old")], vec![renamed.clone()]), ["yes"]);
    assert_eq!(told_of(vec![renamed], vec![byte("old")]), ["yes"]);
}

#[test]
fn every_reason_is_told_at_once() {
    let mut metres = byte("length");
    metres.unit = "m".to_owned();
    let writer = vec![byte("a"), byte("b"), byte("length")];
    let reader = vec![Field::new("b", Type::Bool), byte("c"), metres];

    let mut told = told_of(writer, reader);
    told.sort();

    let want = ["no missing-field c", "no type-differs b", "no unit-differs length"];
    assert_eq!(told, [&want[..], &["no unknown-required-field a"]].concat());
}

#[test]
fn types_widen_freely_and_narrow_on_condition() {
    let list = |item, max| Type::List(Box::new(item), 0, max);
    let small = Int { min: 0, max: 9, ..Int::new(8, true) };
    let flags = |bits: &[(&str, u8)]| {
        let flags = bits.iter().map(|(name, bit)| ((*name).to_owned(), *bit)).collect();
        Type::Int(Int { flags, ..Int::new(8, false) })
    };
    let symbols = |all: &[&str]| Type::Enum(all.iter().map(|&each| each.to_owned()).collect());
    let optional = |inner| Type::Optional(Box::new(inner));

    assert_eq!(told_of_types(Type::uint(8), Type::int(64)), ["yes"]);
    assert_eq!(told_of_types(Type::int(8), Type::uint(8)), ["while only-while-in-range a"]);
    assert_eq!(told_of_types(Type::Int(small), Type::uint(8)), ["yes"]);
    assert_eq!(told_of_types(Type::uint(8), Type::Bool), ["no type-differs a"]);
    assert_eq!(told_of_types(flags(&[("x", 0)]), flags(&[("x", 0), ("y", 1)])), ["yes"]);
    let fewer = told_of_types(flags(&[("x", 0), ("y", 1)]), flags(&[("x", 0)]));
    assert_eq!(fewer, ["while only-while-in-range a"]);
    assert_eq!(told_of_types(flags(&[("x", 0)]), flags(&[("x", 1)])), ["no type-differs a"]);
    assert_eq!(told_of_types(symbols(&["x"]), symbols(&["x", "y"])), ["yes"]);
    let known = told_of_types(symbols(&["x", "y"]), symbols(&["x"]));
    assert_eq!(known, ["while only-while-known a"]);
    assert_eq!(told_of_types(symbols(&["x"]), symbols(&["y"])), ["no type-differs a"]);
    assert_eq!(told_of_types(Type::Bytes(4, 4), Type::Bytes(0, 8)), ["yes"]);
    assert_eq!(told_of_types(Type::Text(9), Type::Text(8)), ["while only-while-in-range a"]);
    assert_eq!(told_of_types(Type::Bool, optional(Type::Bool)), ["yes"]);
    assert_eq!(told_of_types(optional(Type::Bool), Type::Bool), ["while only-while-known a"]);
    let other = told_of_types(optional(Type::Bool), optional(Type::uint(8)));
    assert_eq!(other, ["while only-while-empty a"]);
    assert_eq!(told_of_types(list(Type::Bool, 9), list(Type::Bool, 9)), ["yes"]);
    assert_eq!(
        told_of_types(list(Type::Bool, 9), list(Type::uint(8), 8)),
        ["while only-while-empty a.*", "while only-while-in-range a"]
    );
}

#[test]
fn another_kind_and_another_version_are_refused() {
    let (one, mut other) = (schema(vec![]), schema(vec![]));

    other.version = 2;
    assert_eq!(told(&one, &other), ["no version-differs toy.thing"]);
    other.name = "toy.other".to_owned();
    assert_eq!(told(&one, &other), ["no kind-differs "]);
}

#[test]
fn an_absent_field_has_the_writers_default() {
    let writer = schema(vec![
        byte("a").default(7_u8),
        byte("gone").default(0_u8).critical(Criticality::Ignorable),
    ]);
    let reader = schema(vec![byte("a").default(1_u8), byte("b").default(2_u8)]);
    let plan = resolve(&writer, &reader).expect("they suit");

    let applied = plan.apply(&Map::new().with("gone", 3_u8)).expect("it is taken");

    assert_eq!(applied.state, Map::new().with("a", 7_u8).with("b", 2_u8));
    assert_eq!(
        (applied.dropped, applied.defaulted),
        (vec!["gone".to_owned()], vec!["b".to_owned()])
    );
}

#[test]
fn a_record_that_a_condition_excludes_is_refused_with_every_reason() {
    let writer = schema(vec![byte("a").default(0_u8), Field::new("b", Type::uint(16))]);
    let plan = resolve(&writer, &schema(vec![byte("b")])).expect("on conditions");

    let refusals = plan.apply(&Map::new().with("a", 1_u8).with("b", 256_u16)).expect_err("both");

    let told: Vec<_> = refusals.iter().map(|each| format!("{} {}", each.code, each.path)).collect();
    assert_eq!(told, ["unknown-critical-field a", "not-taken b"]);
}

/// A type, small enough that two of them often have to do with each other.
fn some_type() -> impl Strategy<Value = Type> {
    let symbols = proptest::sample::subsequence(vec!["x", "y", "z"], 1..=3);
    let leaf = prop_oneof![
        Just(Type::Bool),
        (0_i128..4, 0_i128..4).prop_map(|(min, more)| {
            Type::Int(Int { min, max: min + more, ..Int::new(8, false) })
        }),
        symbols.prop_map(|all| Type::Enum(all.into_iter().map(str::to_owned).collect())),
        (0_u64..3, 0_u64..3).prop_map(|(min, more)| Type::Bytes(min, min + more)),
        (0_u64..4).prop_map(Type::Text),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let optional = inner
            .clone()
            .prop_filter("null has one meaning", |inner| !matches!(inner, Type::Optional(_)));
        let fields = proptest::collection::vec((inner.clone(), 0..3_u8), 0..3);
        prop_oneof![
            optional.prop_map(|inner| Type::Optional(Box::new(inner))),
            (inner, 0_u64..2, 0_u64..2).prop_map(|(item, min, more)| Type::List(
                Box::new(item),
                min,
                min + more
            )),
            fields.prop_map(|fields| Type::Struct(fields_of(fields))),
        ]
    })
}

fn fields_of(types: Vec<(Type, u8)>) -> Struct {
    let criticalities = [Criticality::Required, Criticality::Critical, Criticality::Ignorable];
    let field = |(name, (kind, critical)): (&str, (Type, u8))| {
        let default = sample_of(&kind, &mut || 0);
        let with_default = name != "b";
        let field = Field::new(name, kind);
        let field = if with_default { field.default(default) } else { field };
        field.critical(criticalities[usize::from(critical)])
    };
    Struct::new(["a", "b", "c"].into_iter().zip(types).map(field).collect())
}

/// A value of a type; `next` decides which.
fn sample_of(kind: &Type, next: &mut impl FnMut() -> u64) -> Value {
    let between = |min: u64, max: u64, pick: u64| min + pick % (max - min + 1);
    match kind {
        Type::Bool => Value::Bool(next() % 2 == 1),
        Type::Int(int) => {
            let span = u64::try_from(int.max - int.min).expect("small");
            Value::Int(int.min + i128::from(between(0, span, next())))
        }
        Type::Bytes(min, max) => {
            let length = usize::try_from(between(*min, *max, next())).expect("small");
            Value::Bytes(vec![1; length])
        }
        Type::Text(max) => "t".repeat(usize::try_from(next() % (max + 1)).expect("small")).into(),
        Type::Enum(all) => {
            let pick = usize::try_from(next()).expect("small") % all.len();
            Value::from(all[pick].as_str())
        }
        Type::List(item, min, max) => {
            let length = between(*min, *max, next());
            Value::List((0..length).map(|_| sample_of(item, next)).collect())
        }
        Type::Optional(_) if next().is_multiple_of(2) => Value::Null,
        Type::Optional(inner) => sample_of(inner, next),
        Type::Struct(fields) => {
            let mut map = Map::new();
            for field in fields.fields() {
                let value = sample_of(&field.kind, next);
                if field.default.as_ref() != Some(&value) {
                    map.insert(field.name.clone(), value);
                }
            }
            Value::Map(map)
        }
    }
}

fn some_schema() -> impl Strategy<Value = Schema> {
    proptest::collection::vec((some_type(), 0..3_u8), 0..=3)
        .prop_map(|types| Schema { root: fields_of(types), ..schema(Vec::new()) })
}

proptest! {
    #[test]
    fn a_forecast_is_right_and_what_is_taken_fits(
        writer in some_schema(),
        reader in some_schema(),
        picks in proptest::collection::vec(0..1000_u64, 40),
    ) {
        let mut picks = picks.into_iter().cycle();
        let state = sample_of(&Type::Struct(writer.root.clone()), &mut || picks.next().unwrap_or(0));
        let Value::Map(state) = state else { panic!("a struct is a map") };
        prop_assert!(writer.check().is_ok(), "{:?}", writer.check());
        prop_assert_eq!(writer.check_state(&state), Ok(()));

        let told = forecast(&writer, &reader);
        let plan = resolve(&writer, &reader);

        prop_assert_eq!(matches!(told, Forecast::No(_)), plan.is_err());
        if let Ok(plan) = plan {
            match plan.apply(&state) {
                Ok(applied) => {
                    let sent = reader.strip(&applied.state);
                    prop_assert_eq!(reader.check_state(&sent), Ok(()));
                }
                Err(refusals) => {
                    prop_assert!(told != Forecast::Yes, "{refusals:?}");
                }
            }
        }
    }

    #[test]
    fn a_schema_comes_back_from_its_document_and_suits_itself(schema in some_schema()) {
        prop_assert_eq!(Schema::parse(&schema.document()), Ok(schema.clone()));
        prop_assert_eq!(forecast(&schema, &schema), Forecast::Yes);
    }

    #[test]
    fn a_document_is_known_without_being_made(schema in some_schema(), below in 0..40_usize) {
        let document = schema.document();
        let digest: [u8; 32] = Sha256::digest(encode(&document)).into();
        prop_assert_eq!(schema.digest(), digest);
        let nested = (0..below).fold(document.clone(), |value, _| Value::List(vec![value]));
        prop_assert_eq!(schema.document_fits(below), nested.fits());
        prop_assert_eq!(document.fits_below(below), nested.fits());
    }
}
