use std::io::{Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;

use super::*;

/// A channel whose packets have no page (a round ends), or one of one byte at an offset.
fn channel(number: u8, first: u64, packets: &[Option<(u64, u8)>]) -> Arc<File> {
    let mut out = [0x1122_3344_u32.to_be_bytes(), 1_u32.to_be_bytes()].concat();
    out.extend([7; 16]);
    out.push(number);
    out.extend([0; 39]);
    for (nth, packet) in (first..).zip(packets) {
        let (pages, bytes) = if packet.is_some() { (1, 4096) } else { (0, 0) };
        let head = [0x1122_3344_u32, 1, 1 - pages, 1, pages, bytes];
        out.extend(head.map(u32::to_be_bytes).concat());
        out.extend(nth.to_be_bytes());
        out.extend([0; 4 + 28]);
        out.extend(b"mem");
        out.extend([0; 253]);
        let (offset, byte) = packet.unwrap_or_default();
        out.extend(offset.to_be_bytes());
        out.resize(out.len() + bytes as usize, byte);
    }
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&out).expect("written");
    file.rewind().expect("a file has a beginning");
    Arc::new(file)
}

fn bytes(channels: &mut Channels, round: u32) -> Vec<u8> {
    let next = || channels.next(round).expect("valid");
    std::iter::from_fn(next).map(|sent| sent.data.map_or(0, |data| data[0])).collect()
}

#[test]
fn a_page_of_a_later_round_waits_for_all_of_the_earlier_ones() {
    let one = channel(0, 0, &[Some((0, 1)), None, Some((4096, 4)), None]);
    let two = channel(1, 4, &[Some((4096, 2)), Some((8192, 3)), None, None]);
    let channels = Channels::new(&[one, two], 4096).expect("threads");
    let mut channels = channels.expect("there are two");

    assert_eq!(bytes(&mut channels, 0), [1, 2, 3]);
    assert_eq!(bytes(&mut channels, 1), [4]);
    assert_eq!(bytes(&mut channels, u32::MAX), [0_u8; 0]);
    channels.expect_whole().expect("nothing is missing");
}

#[test]
fn a_channel_with_fewer_rounds_is_refused() {
    let one = channel(0, 0, &[None, None]);
    let two = channel(1, 2, &[None]);
    let channels = Channels::new(&[one, two], 4096).expect("threads");
    let mut channels = channels.expect("there are two");
    assert_eq!(bytes(&mut channels, u32::MAX), [0_u8; 0]);

    let told = channels.expect_whole().expect_err("refused").to_string();
    assert!(told.ends_with("one ends before the others"), "{told}");
}

#[test]
fn a_channel_waits_for_its_round_without_reading_it() {
    let pages = (0..100).map(|page| Some((page * 4096, 1)));
    let packets: Vec<_> = [None].into_iter().chain(pages).chain([None]).collect();
    let files: Vec<_> = (0..64).map(|number| channel(number, 0, &packets)).collect();
    let channels = Channels::new(&files, 4096).expect("threads");
    let mut channels = channels.expect("there are some");

    assert_eq!(bytes(&mut channels, 0), [0_u8; 0]);
    for mut file in files.iter().map(|file| &**file) {
        let read = file.stream_position().expect("a place in the file");
        assert!(read <= 68 * 1024, "{read} bytes of a channel are held");
    }
    assert_eq!(bytes(&mut channels, 1).len(), 6400);
}

#[test]
fn more_channels_than_qemu_has_are_refused() {
    let files = |count| vec![channel(0, 0, &[]); count];
    assert!(Channels::new(&files(255), 4096).expect("threads").is_some());

    let told = Channels::new(&files(256), 4096).expect_err("refused").to_string();
    assert!(told.ends_with("256 further channels were given, and QEMU has 255"), "{told}");
}

/// A channel with a packet of one page, in a zstd frame that says its window is 8 MiB, and has nothing else.
fn with_window(number: u8) -> Arc<File> {
    let packet = channel(number, 0, &[Some((0, 0))]);
    let mut out = vec![0; 64 + 328];
    packet.read_exact_at(&mut out, 0).expect("they are there");
    out[64 + 8..64 + 12].copy_from_slice(&4_u32.to_be_bytes());
    out[64 + 20..64 + 24].copy_from_slice(&6_u32.to_be_bytes());
    out.extend([0x28, 0xb5, 0x2f, 0xfd, 0, 0x68]);
    packet.set_len(0).expect("made anew");
    packet.write_all_at(&out, 0).expect("written");
    packet
}

#[test]
fn a_window_that_there_is_no_room_for_is_refused() {
    let refused = |count| {
        let files: Vec<_> = (0..count).map(with_window).collect();
        let channels = Channels::new(&files, 4096).expect("threads");
        let error = channels.expect("there are some").next(0).expect_err("it is not whole");
        std::error::Error::source(&error).expect("a rule").to_string()
    };
    assert!(refused(2).contains("Q-51"), "{}", refused(2));
    let told = refused(4);
    assert!(told.contains("Q-52") && told.ends_with("found 0x800000, want 0x500000"), "{told}");
}
