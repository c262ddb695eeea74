use super::*;

/// What the compiler says of a struct or an enum; nothing if it takes it.
fn error(item: &str) -> Option<String> {
    let input = syn::parse_str(item).expect("Rust");
    record(&input).err().map(|error| error.to_string())
}

fn expect_refused(items: &[(&str, &str)]) {
    for (item, why) in items {
        assert_eq!(error(item).as_deref(), Some(*why), "{item}");
    }
}

#[test]
fn what_can_be_no_record_is_refused() {
    expect_refused(&[
        ("struct A(u8);", "the fields of a record have names"),
        ("struct A;", "the fields of a record have names"),
        ("struct A<T> { a: T }", "a record has no parameters"),
        ("struct A<'a> { a: &'a str }", "a record has no parameters"),
        ("union A { a: u8 }", "a record is a struct, or an enum without fields"),
        ("enum A { B(u8) }", "a symbol has no fields"),
        ("enum A { B { c: u8 } }", "a symbol has no fields"),
    ]);
}

#[test]
fn attributes_that_nobody_knows_are_refused() {
    expect_refused(&[
        ("#[record(nam = \"a\")] struct A {}", "want name, version or source"),
        (
            "struct A { #[field(unti = \"ns\")] a: u8 }",
            "no attribute of a field that `vmstream::record` knows",
        ),
        (
            "enum A { #[field(rename = \"b\")] B }",
            "no attribute of a field that `vmstream::record` knows",
        ),
    ]);
}

#[test]
fn values_of_attributes_have_their_types() {
    expect_refused(&[
        ("#[record(name = a)] struct A {}", "expected string literal"),
        ("#[record(version = \"1\")] struct A {}", "expected integer literal"),
        ("struct A { #[field(unit = 1)] a: u8 }", "expected string literal"),
        ("struct A { #[field(since)] a: u8 }", "expected `=`"),
        ("struct A { #[field(max_len = \"1\")] a: String }", "expected integer literal"),
        ("struct A { #[field(bits(on = \"0\"))] a: u8 }", "expected integer literal"),
    ]);
}

#[test]
fn a_name_means_one_thing() {
    let refused = [
        "struct A { #[field(name = \"b\")] a: u8, b: u8 }",
        "struct A { #[field(alias = \"b\")] a: u8, b: u8 }",
        "struct A { #[field(alias = \"b\", alias = \"b\")] a: u8 }",
        "enum A { #[field(name = \"b\")] C, B }",
    ];
    for item in refused {
        assert_eq!(error(item).as_deref(), Some("b is another one's name, too"), "{item}");
    }
    assert_eq!(error("struct A { #[field(alias = \"c\")] a: u8, b: u8 }"), None);
    assert_eq!(error("enum A { B, C }"), None);
}
