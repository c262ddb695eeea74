//! Rules V: one encoding for each value.

use vmstream::Rule;
use vmstream::value::decode;

/// The rule that bytes break, and where.
fn broken(bytes: &[u8]) -> (Rule, u64) {
    let broken = decode(bytes).expect_err("it breaks a rule");
    (broken.rule, broken.at)
}

#[test]
fn v_1_bytes_after_a_value_are_refused() {
    assert_eq!(broken(&[0x01, 0x00]), (Rule::V1, 1));
}

#[test]
fn v_2_long_heads_are_refused() {
    let long: [&[u8]; 6] = [
        &[0x18, 23],
        &[0x19, 0, 0xff],
        &[0x1a, 0, 0, 0xff, 0xff],
        &[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[0x58, 1, 0],
        &[0x98, 1, 0],
    ];

    for bytes in long {
        assert_eq!(broken(bytes), (Rule::V2, 0), "{bytes:x?}");
    }
}

#[test]
fn v_3_indefinite_lengths_are_refused() {
    for initial in [0x5f, 0x7f, 0x9f, 0xbf] {
        assert_eq!(broken(&[0x81, initial, 0xff]), (Rule::V3, 1));
    }
}

#[test]
fn v_4_keys_that_repeat_or_descend_or_are_no_text_are_refused() {
    assert_eq!(broken(&[0xa2, 0x61, b'a', 0, 0x61, b'a', 0]), (Rule::V4, 4));
    assert_eq!(broken(&[0xa2, 0x61, b'b', 0, 0x61, b'a', 0]), (Rule::V4, 4));
    assert_eq!(broken(&[0xa2, 0x62, b'a', b'a', 0, 0x61, b'b', 0]), (Rule::V4, 5));
    assert_eq!(broken(&[0xa1, 0x01, 0x01]), (Rule::V4, 1));
}

#[test]
fn v_5_floats_tags_and_other_simple_values_are_refused() {
    let odd: [&[u8]; 6] =
        [&[0xf9, 0, 0], &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0], &[0xc0, 0], &[0xf7], &[0xe0], &[0xf8, 20]];

    for bytes in odd {
        assert_eq!(broken(bytes), (Rule::V5, 0), "{bytes:x?}");
    }
}

#[test]
fn v_6_text_that_is_no_utf_8_is_refused() {
    assert_eq!(broken(&[0x62, 0xc3, 0x28]), (Rule::V6, 1));
}

#[test]
fn v_7_a_list_in_32_others_is_refused() {
    let nested = |depth: usize| [vec![0x81; depth], vec![0x00]].concat();

    assert!(decode(&nested(32)).is_ok());
    assert_eq!(broken(&nested(33)).0, Rule::V7);
}

#[test]
fn v_8_more_values_than_a_payload_may_have_are_refused() {
    let list = |length: u32| {
        let mut bytes = vec![0x9a];
        bytes.extend(length.to_be_bytes());
        bytes.extend(vec![0; usize::try_from(length).expect("small")]);
        bytes
    };
    let keys: Vec<u8> = (0..65_537_u32).flat_map(|key| format!("e{key:05}").into_bytes()).collect();
    let mut map = vec![0xba, 0, 1, 0, 1];
    keys.chunks(6).for_each(|key| map.extend([&[0x66], key, &[0]].concat()));

    assert!(decode(&list(262_143)).is_ok());
    assert_eq!(broken(&list(262_144)).0, Rule::V8);
    assert_eq!(broken(&map).0, Rule::V8);
}

#[test]
fn v_9_a_length_beyond_the_end_is_refused_and_nothing_is_taken_for_it() {
    let long: [&[u8]; 6] = [
        &[],
        &[0x19, 1],
        &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x7a, 0x7f, 0xff, 0xff, 0xff, b'a'],
        &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];

    for bytes in long {
        assert_eq!(broken(bytes).0, Rule::V9, "{bytes:x?}");
    }
}
