//! Streams that lie: each ends in an error that says where, in bounded time and memory.

use proptest::prelude::*;
use vmstream_qemu::{Event, ReadError, Reader, Rule, read_channel};

use crate::fixtures::stream;
use crate::stream::Trickle;

fn read(bytes: &[u8]) -> Result<u64, ReadError> {
    let mut end = 0;
    Reader::new().read(&mut &*bytes, &mut |range: std::ops::Range<u64>, _: &Event<'_>| {
        assert_eq!(range.start, end, "ranges tile whatever is read");
        end = range.end;
        Ok(())
    })?;
    Ok(end)
}

fn rule_of(bytes: &[u8]) -> (Rule, u64) {
    match read(bytes).expect_err("the stream is broken") {
        ReadError::Broken(broken) => (broken.rule, broken.offset),
        other => panic!("{other}"),
    }
}

/// What every made-up stream begins with: memory of one block of two pages.
fn beginning() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04".to_vec();
    bytes.extend(0x2004u64.to_be_bytes());
    bytes.extend(b"\x02pc");
    bytes.extend(0x2000u64.to_be_bytes());
    bytes
}

fn with(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = beginning();
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}

#[test]
fn each_rule_of_memory_is_named_with_the_byte_that_breaks_it() {
    let at = beginning().len() as u64;
    let number = |number: u64| number.to_be_bytes();
    let footer = b"\x7e\0\0\0\x02";

    assert_eq!(rule_of(b"QEVN\0\0\0\x03"), (Rule::Magic, 0));
    assert_eq!(rule_of(b"QEVM\0\0\0\x02"), (Rule::Version, 4));
    assert_eq!(rule_of(b"QEVM\0\0\0\x03\x09"), (Rule::Element, 8));
    assert_eq!(rule_of(b"QEVM\0\0\0\x03"), (Rule::Truncated, 8));
    assert_eq!(rule_of(b"QEVM\0\0\0\x03\x02\0\0\0\x02"), (Rule::UnknownSection, 8));
    assert_eq!(rule_of(b"QEVM\0\0\0\x03\x08\0\x63\0\0"), (Rule::Command, 8));
    assert_eq!(rule_of(&with(&[&number(0x1)])), (Rule::RamFlags, at));
    assert_eq!(rule_of(&with(&[&number(0x18)])), (Rule::RamFlags, at));
    assert_eq!(rule_of(&with(&[&number(0x1010)])), (Rule::RamFlags, at));
    assert_eq!(rule_of(&with(&[&number(0x22), &[0]])), (Rule::RamContinue, at + 8));
    assert_eq!(rule_of(&with(&[&number(0x02), b"\x02no"])), (Rule::RamBlock, at + 8));
    assert_eq!(rule_of(&with(&[&number(0x2002), b"\x02pc"])), (Rule::RamOffset, at + 8));
    assert_eq!(rule_of(&with(&[&number(!0xfff | 2), b"\x02pc"])), (Rule::RamOffset, at + 8));
    assert_eq!(rule_of(&with(&[&number(0x10), b"\x7e\0\0\0\x03"])), (Rule::Footer, at + 8));
    assert_eq!(rule_of(&with(&[&number(0x10), footer, b"\x07\xff\xff\xff\xff"])).0, Rule::Length);
    assert_eq!(
        rule_of(&with(&[&number(0x10), footer, b"\x08\0\x07\0\x04\xff\xff\xff\xff"])).0,
        Rule::Length
    );
    let sound = with(&[&number(0x10), footer, &[0]]);
    assert_eq!(read(&sound).expect("sound"), sound.len() as u64);
}

#[test]
fn a_block_larger_than_the_total_is_refused() {
    let mut bytes = beginning();
    let at = bytes.len() - 11;
    bytes[at + 3..].copy_from_slice(&0x3000u64.to_be_bytes());

    assert_eq!(rule_of(&bytes), (Rule::RamTotal, at as u64));
}

#[test]
fn a_package_in_a_package_is_refused() {
    let inner = b"\x08\0\x07\0\x04\0\0\0\0";
    let bytes = with(&[&0x10u64.to_be_bytes(), b"\x08\0\x07\0\x04\0\0\0\x09", inner]);

    assert_eq!(rule_of(&bytes).0, Rule::Nesting);
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = stream("100_microvm_S");
    for cut in (0..bytes.len()).step_by(733).chain(bytes.len() - 200..bytes.len()) {
        let broken = match read(&bytes[..cut]).expect_err("it is cut") {
            ReadError::Broken(broken) => broken,
            other => panic!("{other}"),
        };
        assert!(broken.offset <= cut as u64, "cut at {cut}: {broken}");
    }
}

#[test]
fn a_flipped_bit_never_breaks_the_reader() {
    let bytes = stream("100_microvm_S");
    let mut accepted = 0;
    for step in 0..300usize {
        // Most of the stream is memory; most that can go wrong is behind it.
        let at = if step % 3 == 0 { step * 1417 } else { bytes.len() - 1 - step * 67 };
        let mut flipped = bytes.clone();
        flipped[at % bytes.len()] ^= 1 << (step % 8);
        accepted += u32::from(read(&flipped).is_ok());
    }
    assert!(accepted < 300);
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_break_the_reader(rest: Vec<u8>) {
        let mut bytes = beginning();
        bytes.extend(rest);
        drop(read(&bytes));
    }

    #[test]
    fn bytes_of_any_kind_never_break_a_channel(rest: Vec<u8>, flags in 0u32..8) {
        let mut bytes = b"\x11\x22\x33\x44\0\0\0\x01".to_vec();
        bytes.resize(64, 0);
        bytes.extend(b"\x11\x22\x33\x44\0\0\0\x01");
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, u8::try_from(rest.len() % 256).unwrap_or(0)]);
        bytes.resize(64 + 320 + 64, 0);
        bytes.extend(rest);
        drop(read_channel(&mut bytes.as_slice(), 4096, &mut |_: std::ops::Range<u64>, _: &vmstream_qemu::ChannelEvent<'_>| Ok(())));
    }
}

/// A device whose state looks like so many beginnings of descriptions, of which every other has an end.
fn with_decoys(count: usize) -> Vec<u8> {
    let body = b"\0\x06\0\0\0\x02{\0\x06\0\x01\0\0{".repeat(count);
    let field = format!(r#"{{"name": "a", "type": "buffer", "size": {}}}"#, body.len());
    let device = r#"{"name": "e", "instance_id": 0, "vmsd_name": "e", "version": 1"#;
    let description = format!(r#"{{"devices": [{device}, "fields": [{field}]}}]}}"#);
    let length = u32::try_from(description.len()).expect("short").to_be_bytes();
    let head = b"QEVM\0\0\0\x03\x04\0\0\0\x03\x01e\0\0\0\0\0\0\0\x01";
    [&head[..], &body, b"\x7e\0\0\0\x03\0\x06", &length, description.as_bytes()].concat()
}

#[test]
fn what_looks_like_descriptions_hides_none_however_the_bytes_come() {
    let bytes = with_decoys(100);
    for slowly in [false, true] {
        let mut devices = 0;
        let mut take = |_: std::ops::Range<u64>, event: &Event<'_>| {
            devices += usize::from(matches!(event, Event::Device(_)));
            Ok(())
        };
        let (mut whole, mut trickle) = (&*bytes, Trickle(&bytes));
        let source: &mut dyn std::io::Read = if slowly { &mut trickle } else { &mut whole };
        Reader::new().read(source, &mut take).expect("valid");
        assert_eq!(devices, 1, "byte by byte: {slowly}");
    }
}
