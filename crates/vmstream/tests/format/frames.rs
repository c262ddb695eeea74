//! Rules F: frames.

use vmstream::Rule;
use vmstream::frame::{COMPRESSED, CRITICAL, Header, Kind, PROVISIONAL};

use crate::raw::{Raw, greeted, loaded, manifested, read_all, refusal, rule};

fn flipped(at: usize, bit: u8) -> Vec<u8> {
    let mut stream = loaded().finish().out;
    stream[at] ^= bit;
    stream
}

#[test]
fn f_1_a_stream_without_the_tag_is_refused() {
    let stream = loaded().finish().out;

    assert_eq!(refusal(&stream[3..]), (Rule::F1, 0, 0));
    assert_eq!(refusal(b"QEVM\0\0\0\x03"), (Rule::F1, 0, 0));
    assert_eq!(refusal(b""), (Rule::F1, 0, 0));
}

#[test]
fn f_2_another_head_is_refused() {
    for at in [0, 1, 3, 6, 9, 18, 23, 32, 37, 42] {
        let offset = u64::try_from(3 + at).expect("small");
        assert_eq!(refusal(&flipped(3 + at, 1)), (Rule::F2, 0, offset));
    }
}

#[test]
fn f_3_a_header_with_another_crc_is_refused() {
    for at in [2, 5, 8, 17, 22, 31, 36, 41] {
        assert_eq!(refusal(&flipped(3 + at, 1)), (Rule::F3, 0, 40));
    }
}

#[test]
fn f_4_two_lengths_that_differ_are_refused() {
    assert_eq!(refusal(&flipped(3 + 50, 1)), (Rule::F4, 0, 45));
}

#[test]
fn f_5_a_payload_with_another_crc_is_refused() {
    assert_eq!(refusal(&flipped(3 + 51 + 20, 0x80)), (Rule::F5, 0, 54));
}

#[test]
fn f_6_a_payload_that_is_too_long_is_refused_before_it_comes() {
    let long = |header: &mut Header| header.length = (1 << 20) + 1;
    let raw = greeted().frame_with(14, 0, b"", long);

    assert_eq!(refusal(&raw.out).0, Rule::F6);
}

#[test]
fn f_7_flags_that_a_kind_does_not_have_are_refused() {
    assert_eq!(rule(greeted().frame(Kind::Pad, COMPRESSED, b"")), Rule::F7);
    assert_eq!(rule(greeted().frame(Kind::Manifest, PROVISIONAL, b"")), Rule::F7);
    assert_eq!(rule(greeted().frame(Kind::Note, 1 << 4, b"")), Rule::F7);
    assert_eq!(rule(greeted().frame_with(200, 1 << 15, b"", |_| ())), Rule::F7);
    assert_eq!(rule(greeted().frame_with(11, CRITICAL, b"", |_| ())), Rule::F7);
}

#[test]
fn f_8_an_unknown_kind_is_skipped_unless_it_is_critical() {
    let skipped = manifested().frame_with(200, 0, &[0; 70_000], |_| ());
    let skipped = skipped.epoch(1).message(
        Kind::Switch,
        &vmstream::message::Switch { mode: vmstream::message::SwitchMode::Stopped },
    );
    let skipped = skipped.records(0, &[crate::sample::record(0)]).finish();
    let damaged = greeted().frame_with(200, 0, b"abc", |header| header.payload_crc ^= 1);

    read_all(skipped.out.as_slice()).expect("nobody need know kind 200");
    assert_eq!(rule(damaged), Rule::F5);
    assert_eq!(rule(greeted().frame_with(200, CRITICAL, b"", |_| ())), Rule::F8);
}

#[test]
fn f_9_a_known_kind_that_is_critical_or_not_against_the_table_is_refused() {
    assert_eq!(rule(greeted().frame_with(3, 0, b"", |_| ())), Rule::F9);
    assert_eq!(rule(greeted().frame_with(13, CRITICAL, b"", |_| ())), Rule::F9);
}

#[test]
fn f_10_a_frame_of_another_channel_is_refused() {
    assert_eq!(rule(greeted().frame_with(13, 0, b"", |header| header.channel = 1)), Rule::F10);
}

#[test]
fn f_11_a_frame_lost_or_repeated_is_refused() {
    let ahead = greeted().frame_with(13, 0, b"", |header| header.sequence = 2);
    let again = greeted().frame_with(13, 0, b"", |header| header.sequence = 0);

    assert_eq!(rule(ahead), Rule::F11);
    assert_eq!(rule(again), Rule::F11);
}

#[test]
fn f_12_an_epoch_that_falls_is_refused() {
    let raw = manifested().epoch(2).frame(Kind::Pad, 0, b"").epoch(1).frame(Kind::Pad, 0, b"");

    assert_eq!(rule(raw), Rule::F12);
}

#[test]
fn f_13_a_compressed_payload_that_is_broken_or_too_large_is_refused() {
    use std::io::Write;
    let zlib = |bytes: &[u8]| {
        let level = flate2::Compression::fast();
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), level);
        packer.write_all(bytes).expect("memory");
        packer.finish().expect("memory")
    };
    let note = |payload: &[u8]| rule(greeted().frame(Kind::Note, COMPRESSED, payload));
    let empty = zlib(&[0xa0]);

    assert_eq!(note(&empty), Rule::M1, "it inflates to a map without keys");
    assert_eq!(note(&empty[..empty.len() - 1]), Rule::F13);
    assert_eq!(note(&[empty.as_slice(), &[0]].concat()), Rule::F13);
    assert_eq!(note(&zlib(&vec![0; (1 << 20) + 1])), Rule::F13);
    assert_eq!(note(b"no zlib"), Rule::F13);
}

#[test]
fn f_14_a_stream_that_ends_early_is_refused_wherever_that_is() {
    let stream = loaded().finish().out;

    for end in 3..stream.len() {
        assert_eq!(refusal(&stream[..end]).0, Rule::F14, "cut to {end} bytes");
    }
}

#[test]
fn f_15_a_byte_after_the_end_is_refused() {
    let mut stream = loaded().finish().out;
    let end = stream.len() as u64;
    stream.push(0);

    assert_eq!(refusal(&stream), (Rule::F15, 5 + 1, end));
}

#[test]
fn a_stream_of_another_channel_than_0_is_read() {
    let mut raw = Raw::new();
    raw.channel = 7;
    let mut hello = crate::sample::hello();
    hello.purpose = vmstream::message::Purpose::Answer;
    let stream = raw.message(Kind::Hello, &hello).finish().out;

    assert_eq!(read_all(stream.as_slice()).expect("a good stream"), 2);
}
