//! Rules D and S: device records and their schemas.

use vmstream::frame::{Kind, PROVISIONAL};
use vmstream::message::DeviceRecord;
use vmstream::schema::{Field, Int, Struct, Type};
use vmstream::{Map, Rule, Schema, Value};

use crate::raw::{Raw, described, greeted, loaded, manifested, rule, schema_value, switched};
use crate::sample;

fn with_state(change: impl FnOnce(&mut Map)) -> Rule {
    let mut record = sample::record(0);
    change(&mut record.state);
    rule(switched().records(0, &[record]))
}

fn with_schema(schema: &Schema) -> Rule {
    rule(greeted().value(Kind::Schema, &schema_value(0, schema)))
}

fn with_fields(fields: Vec<Field>) -> Rule {
    with_schema(&Schema { root: Struct::new(fields), ..sample::schema() })
}

#[test]
fn d_1_state_that_does_not_fit_is_refused() {
    let set = |name: &str, value: Value| with_state(|state| drop(state.insert(name, value)));

    assert_eq!(set("unknown", 1_u8.into()), Rule::D1);
    assert_eq!(with_state(|state| drop(state.remove("mode"))), Rule::D1);
    assert_eq!(set("divisor", 65_536_u32.into()), Rule::D1);
    assert_eq!(set("divisor", "3".into()), Rule::D1);
    assert_eq!(set("divisor", Value::Null), Rule::D1);
    assert_eq!(set("mode", "idle".into()), Rule::D1);
    assert_eq!(set("enable", 2_u8.into()), Rule::D1, "bit 1 has no name");
    assert_eq!(set("fifo", Value::Bytes(vec![0; 17])), Rule::D1);
    assert_eq!(set("serial", "x".repeat(21).into()), Rule::D1);
    assert_eq!(
        set("lines", vec![sample::state().get("irq").expect("irq").clone(); 5].into()),
        Rule::D1
    );
    assert_eq!(set("irq", Value::Map(Map::new().with("vector", 1_u8))), Rule::D1);
}

#[test]
fn d_2_a_record_without_its_schema_is_refused() {
    let kind = DeviceRecord { kind: "toy.disk".to_owned(), ..sample::record(0) };

    assert_eq!(rule(switched().records(0, &[sample::record(1)])), Rule::D2);
    assert_eq!(rule(switched().records(0, &[kind])), Rule::D2);
}

#[test]
fn d_3_a_field_at_its_default_is_refused() {
    assert_eq!(with_state(|state| drop(state.insert("divisor", 12_u8))), Rule::D3);
    let irq = Map::new().with("masked", true).with("vector", 0_u8);
    assert_eq!(with_state(|state| drop(state.insert("irq", irq))), Rule::D3);
}

#[test]
fn d_4_a_second_final_record_is_refused() {
    assert_eq!(rule(loaded().records(0, &[sample::record(0)])), Rule::D4);
}

#[test]
fn d_5_more_device_state_than_64_mib_is_refused() {
    let mut schema = sample::schema();
    schema.root = Struct::new(vec![Field::new("all", Type::Bytes(0, 1 << 20))]);
    let state = Map::new().with("all", Value::Bytes(vec![0; 1_000_000]));
    let record = DeviceRecord { state, ..sample::record(0) };
    let mut raw = greeted()
        .value(Kind::Schema, &schema_value(0, &schema))
        .message(Kind::Manifest, &sample::manifest(0));
    for _ in 0..67 {
        raw = raw.records(PROVISIONAL, std::slice::from_ref(&record));
    }

    assert_eq!(rule(raw.clone()), Rule::O5, "67 records are not too many");
    assert_eq!(rule(raw.records(PROVISIONAL, &[record])), Rule::D5);
}

#[test]
fn d_6_a_declared_device_without_record_and_a_record_without_declaration_are_refused() {
    let other = DeviceRecord { path: "bus/uart1".to_owned(), ..sample::record(0) };

    assert_eq!(rule(switched()), Rule::D6);
    assert_eq!(rule(switched().records(0, &[other])), Rule::D6);
}

#[test]
fn s_1_a_schema_in_another_dialect_is_refused() {
    let change = |change: &dyn Fn(&mut Map)| {
        let Value::Map(mut document) = sample::schema().document() else { panic!("a map") };
        change(&mut document);
        let value = Map::new().with("id", 0_u8).with("schema", document);
        rule(greeted().value(Kind::Schema, &Value::Map(value)))
    };
    let field = |key: &'static str, value: Value| {
        change(&move |document: &mut Map| {
            let properties = document.get_mut("properties").expect("properties");
            let Value::Map(properties) = properties else { panic!("a map") };
            let Some(Value::Map(field)) = properties.get_mut("divisor") else { panic!("a map") };
            field.insert(key, value.clone());
        })
    };

    assert_eq!(change(&|_| ()), Rule::O5, "as it is, it is good");
    assert_eq!(change(&|document| drop(document.insert("$ref", "#"))), Rule::S1);
    assert_eq!(change(&|document| drop(document.insert("title", ""))), Rule::S1);
    assert_eq!(change(&|document| drop(document.insert("additionalProperties", true))), Rule::S1);
    assert_eq!(change(&|document| drop(document.insert("required", Vec::new()))), Rule::S1);
    assert_eq!(field("x-type", "u128".into()), Rule::S1);
    assert_eq!(field("type", "string".into()), Rule::S1);
    assert_eq!(field("multipleOf", 2_u8.into()), Rule::S1);
    assert_eq!(field("maximum", 65_536_u32.into()), Rule::S1);
    assert_eq!(field("minimum", 65_535_u32.into()), Rule::S2, "the default is out of range");
    let null = Type::Optional(Box::new(Type::Optional(Box::new(Type::Bool))));
    assert_eq!(with_fields(vec![Field::new("a", null)]), Rule::S1);
}

#[test]
fn s_2_a_default_of_another_type_is_refused() {
    assert_eq!(with_fields(vec![Field::new("a", Type::Bool).default(1_u8)]), Rule::S2);
    assert_eq!(with_fields(vec![Field::new("a", Type::uint(8)).default(256_u16)]), Rule::S2);
}

#[test]
fn s_3_too_many_schemas_are_refused() {
    let small = Schema { root: Struct::default(), ..sample::schema() };
    let many = |count: u32| {
        (0..count).fold(greeted(), |raw, id| raw.value(Kind::Schema, &schema_value(id, &small)))
    };
    let symbols = (0..60_000).map(|symbol| format!("{symbol:05}")).collect();
    let large = vec![Field::new("a", Type::Enum(symbols))];
    let large = Schema { root: Struct::new(large), ..sample::schema() };
    let heavy = |raw: Raw, id| raw.value(Kind::Schema, &schema_value(id, &large));

    assert_eq!(rule(many(4096)), Rule::O5, "4,096 are not too many");
    assert_eq!(rule(many(4097)), Rule::S3);
    assert_eq!(rule((0..4).fold(greeted(), heavy)), Rule::O5, "240,000 values neither");
    assert_eq!(rule((0..5).fold(greeted(), heavy)), Rule::S3);
}

#[test]
fn s_4_names_that_repeat_are_refused() {
    let mut alias = Field::new("b", Type::Bool);
    alias.aliases = vec!["a".to_owned()];
    let twice = Type::Enum(vec!["a".to_owned(), "a".to_owned()]);
    let bits = |bits: &[(&str, u8)]| {
        let flags = bits.iter().map(|(name, bit)| ((*name).to_owned(), *bit)).collect();
        with_fields(vec![Field::new("a", Type::Int(Int { flags, ..Int::new(8, false) }))])
    };

    assert_eq!(with_fields(vec![Field::new("a", Type::Bool), alias]), Rule::S4);
    assert_eq!(with_fields(vec![Field::new("a", twice)]), Rule::S4);
    assert_eq!(bits(&[("x", 1), ("y", 1)]), Rule::S4);
    assert_eq!(bits(&[("x", 8)]), Rule::S4);
}

#[test]
fn provisional_records_may_repeat() {
    let raw = manifested().records(PROVISIONAL, &[sample::record(0), sample::record(0)]);

    assert_eq!(rule(raw), Rule::O5, "as far as it goes");
    assert_eq!(rule(described()), Rule::O5);
}
