use super::*;
use crate::description::Description;
use crate::encode::encode;
use crate::error::Broken;

fn device(fields: &str) -> DescribedDevice {
    let json = format!(
        r#"{{"devices": [{{"name": "d", "instance_id": 0, "vmsd_name": "d", "version": 1, {fields}}}]}}"#
    );
    let mut description = Description::parse(json.as_bytes(), 0).expect("a description");
    description.devices.remove(0)
}

fn read(fields: &str, bytes: &[u8]) -> Result<Structure, Broken> {
    let mut cursor = Cursor::new(bytes, 1000);
    let structure = described(&mut cursor, &device(fields))?;
    assert!(cursor.is_empty(), "the body is used up");
    assert_eq!(encode(&structure).as_deref(), Ok(bytes), "and written as it was");
    Ok(structure)
}

fn number(structure: &Structure, path: &str) -> Option<u64> {
    structure.find(path)?.1.as_unsigned()
}

const PAIR: &str =
    r#""vmsd_name": "p", "version": 1, "fields": [{"name": "a", "type": "uint8", "size": 1}]"#;

#[test]
fn items_of_a_queue_are_told_apart_by_order() {
    let fields =
        format!(r#""fields": [{{"name": "q", "type": "qtailq", {PAIR}, {PAIR}, "size": 5}}]"#);
    let structure = read(&fields, &[1, 7, 1, 8, 0]).expect("valid");

    assert_eq!((number(&structure, "q[0]/a"), number(&structure, "q[1]/a")), (Some(7), Some(8)));
    let broken = read(&fields, &[1, 7, 0, 8, 0]).expect_err("one item short");
    assert_eq!((broken.rule, broken.offset), (Rule::DescribedMarker, 1002));
}

#[test]
fn a_trees_keys_are_numbers_or_structures() {
    let direct = format!(r#""fields": [{{"name": "t", "type": "gtree", {PAIR}, "size": 15}}]"#);
    let structure = read(&direct, b"\0\0\0\x01\x01\0\0\0\0\0\0\0\x09\x07\0").expect("valid");
    assert_eq!(number(&structure, "t[0]/key"), Some(9));
    assert_eq!(number(&structure, "t[0]/value/a"), Some(7));

    let keyed =
        format!(r#""fields": [{{"name": "t", "type": "gtree", {PAIR}, {PAIR}, "size": 8}}]"#);
    let structure = read(&keyed, b"\0\0\0\x01\x01\x05\x06\0").expect("valid");
    assert_eq!(number(&structure, "t[0]/key/a"), Some(5));
    assert_eq!(number(&structure, "t[0]/value/a"), Some(6));
}

#[test]
fn what_stands_beside_the_type_is_what_a_versioned_structure_holds() {
    for kind in ["vstruct", "tmp"] {
        let fields = format!(r#""fields": [{{"name": "v", "type": "{kind}", {PAIR}, "size": 1}}]"#);
        assert_eq!(number(&read(&fields, &[3]).expect("valid"), "v/a"), Some(3));
    }
}

#[test]
fn an_arrays_items_may_be_described_each_and_the_last_without_its_number() {
    let item = |index: &str| {
        format!(r#"{{"name": "x", {index} "type": "struct", "struct": {{{PAIR}}}, "size": 1}}"#)
    };
    let fields = format!(
        r#""fields": [{}, {}, {}]"#,
        item(r#""index": 0,"#),
        item(r#""index": 1,"#),
        item("")
    );
    let structure = read(&fields, &[4, 5, 6]).expect("valid");

    assert_eq!(structure.fields.len(), 1);
    assert_eq!(number(&structure, "x[2]/a"), Some(6));
}

#[test]
fn null_pointers_in_an_array_keep_their_places() {
    let null = r#"{"name": "x", "array_len": 2, "type": "nullptr", "size": 1}"#;
    let one = format!(r#"{{"name": "x", "type": "struct", "struct": {{{PAIR}}}, "size": 1}}"#);
    let structure = read(&format!(r#""fields": [{null}, {one}]"#), b"00\x09").expect("valid");

    assert_eq!(number(&structure, "x[2]/a"), Some(9));
    assert_eq!(structure.find("x[0]").map(|(_, value)| value), Some(&Value::Null));
}

#[test]
fn an_array_that_is_described_once_may_hold_items_of_several_lengths() {
    let inner = r#""vmsd_name": "p", "version": 1, "fields": [{"name": "a", "array_len": 2, "type": "uint16", "size": 2}]"#;
    let fields = format!(
        r#""fields": [{{"name": "x", "array_len": 2, "type": "struct", "struct": {{{inner}}}, "size": 4}}]"#
    );
    let structure = read(&fields, &[0, 1, 0, 2, 0, 3, 0, 4]).expect("valid");

    assert_eq!(number(&structure, "x[1]/a[1]"), Some(4));
}

#[test]
fn a_subsection_stands_where_the_description_says() {
    let fields =
        format!(r#""fields": [], "subsections": [{{{}}}]"#, PAIR.replace("\"p\"", "\"d/p\""));
    let structure = read(&fields, b"\x05\x03d/p\0\0\0\x01\x07").expect("valid");

    assert_eq!(number(&structure, "p/a"), Some(7));
    let broken = read(&fields, b"\x05\x03d/q\0\0\0\x01\x07").expect_err("another name");
    assert_eq!((broken.rule, broken.offset), (Rule::DescribedSubsection, 1000));
}

#[test]
fn a_size_that_does_not_fit_its_type_is_refused_with_its_field() {
    let broken = read(r#""fields": [{"name": "n", "type": "uint32", "size": 2}]"#, &[0; 4]);
    let broken = broken.expect_err("two bytes");

    assert_eq!(
        broken.to_string(),
        "byte 1000: Q-33: a field is as long as the description says (d: n); found 0x4, want 0x2"
    );
}

#[test]
fn more_items_than_any_section_has_are_refused_before_they_are_held() {
    let fields =
        r#""fields": [{"name": "n", "array_len": 4000000000, "type": "uint16", "size": 2}]"#;
    let broken = read(fields, &[0; 2_000_000]).expect_err("too many");

    assert_eq!(broken.rule, Rule::Fields);
}

#[test]
fn a_negative_number_keeps_its_sign_and_what_is_too_large_is_not_written() {
    let fields = r#""fields": [{"name": "n", "type": "int16", "size": 2}]"#;
    let mut structure = read(fields, &[0xff, 0xfe]).expect("valid");
    assert_eq!(structure.find("n").map(|(_, value)| value), Some(&Value::Signed(-2)));

    *structure.find_mut("n").expect("the field") = Value::Signed(40_000);
    assert!(encode(&structure).is_err());
}
